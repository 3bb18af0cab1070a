"""Networks of every library behind one `build(spec, classes)`."""

import importlib
from types import ModuleType

from torch import nn

from core.errors import InvalidInputError
from core.settings import Settings
from core.vocabulary import TaskType
from core.zoo import weights
from core.zoo.recipes import DETECTORS, REGIONS
from core.zoo.spec import ModelSpec
from worker.networks import classification
from worker.networks.mending import mend

__all__ = ["backbone_of", "build", "features", "library_of"]

# Where in a network that answers with places the part lies that is pre-trained on images, by library; of torchvision's own with COCO's weights
# the pyramid belongs to it.
BACKBONES = {
    "torchvision over timm": "inner.backbone.body",
    "torchvision": "inner.backbone",
    "segmentation-models-pytorch": "encoder",
    "transformers": "inner.model.backbone",
}


def build(
    spec: ModelSpec,
    task_type: TaskType,
    classes: int,
    *,
    pretrained: bool = True,
    settings: Settings,
    image_size: int | None = None,
) -> nn.Module:
    """The network of an entry with `classes` outputs, its weights loaded where `pretrained` and the entry has any.

    `image_size` is the side of the squares it will be trained on, the entry's own by default; only networks with position embeddings
    must know. The forward takes normalised images [N, 3, side, side]. For classification it gives logits [N, classes], for regions logits
    [N, classes, side, side]; for boxes and instances see `worker.networks.detection`.

    Raises:
        InvalidInputError: when the entry does not serve this task type or size.
        UnavailableError: when its weights cannot be had, or are not what they should be.
    """
    if task_type not in spec.task_types:
        raise InvalidInputError(
            f"{spec.network} is no network for {task_type.title.lower()}.", f"`stationmaster zoo list --task-type {task_type}` names those."
        )
    if image_size is not None and not spec.accepts_size(image_size):
        raise InvalidInputError(f"{spec.network} takes {spec.sizes_text}; {image_size} px were given.")
    library = library_of(spec)
    network: nn.Module = library.build(spec, classes, image_size)
    if pretrained and spec.pretraining != weights.NONE:
        library.load(network, spec, weights.obtain(spec, settings), image_size)
    mend(network)
    return network


def features(spec: ModelSpec, *, settings: Settings, image_size: int) -> nn.Module:
    """A network for classification with its weights and without its outputs: normalised images [N, 3, side, side] → features [N, …].

    Raises:
        InvalidInputError: when the entry is no network for classification; UnavailableError: when its weights cannot be had.
    """
    network = build(spec, TaskType.SINGLE_LABEL, 2, settings=settings, image_size=image_size)
    classification.drop_outputs(network, spec)
    return network


def backbone_of(network: nn.Module, spec: ModelSpec) -> nn.Module:
    """The part of a network for boxes, regions or instances that features come from, below its heads; of one for classification the whole."""
    return network if TaskType.SINGLE_LABEL in spec.task_types else network.get_submodule(BACKBONES[spec.library])


def library_of(spec: ModelSpec) -> ModuleType:
    """The module of this package that builds an entry. They are imported when they are needed: some of their libraries take seconds."""
    if spec.library == "transformers":
        return importlib.import_module("worker.networks.detection_transformers")
    if spec.recipe in DETECTORS:
        return importlib.import_module("worker.networks.detection")
    if spec.recipe in REGIONS:
        return importlib.import_module("worker.networks.segmentation")
    return classification
