"""A finished model on an image or many: labels, boxes or masks with their confidence, and a picture of where. Runs on the CPU."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import nn

from core.datasets.reading import read_pictures
from core.errors import BadDataError, NotFoundError
from core.host_limits import usable_cores
from core.identifiers import new_id
from core.settings import Settings
from core.storage import Storage
from core.tasks.sweeping import PREDICTIONS
from core.vocabulary import TaskType
from core.zoo.spec import ModelSpec
from worker.engine.augment import Normalisation
from worker.engine.data import decode
from worker.networks import build
from worker.reports.activation import activation_map
from worker.reports.found_objects import drawing_of, find_objects
from worker.reports.found_regions import drawing_of as drawing_of_regions
from worker.reports.found_regions import find_regions
from worker.reports.pictures import heat_over

_LABELS = 5  # named where one label is to be chosen


@dataclass(frozen=True)
class LoadedModel:
    """A model read from its folder, ready for images on the CPU."""

    card: dict[str, Any]
    network: nn.Module
    task_type: TaskType

    @property
    def classes(self) -> list[str]:
        """Names of the classes, in the order of the outputs."""
        return list(self.card["classes"])

    @property
    def gives_instances(self) -> bool:
        """Whether it marks single objects by masks."""
        return bool(self.card["spec"].get("instances_only", False))

    @property
    def exclusive(self) -> bool:
        """Whether, of a model for regions, a place belongs to one class at most."""
        return bool(self.card.get("exclusive", False))

    def prepare(self, data: bytes) -> torch.Tensor:
        """An image file as the network takes it, [1, 3, size, size]."""
        preprocessing = self.card["preprocessing"]
        pixels = torch.from_numpy(decode(data, int(preprocessing["size"][0])).copy())
        normalisation = Normalisation(tuple(preprocessing["mean"]), tuple(preprocessing["std"]))
        return normalisation.apply(pixels[None].permute(0, 3, 1, 2))


def load_model(model_key: str, *, storage: Storage, settings: Settings) -> LoadedModel:
    """Read a model folder.

    Raises:
        NotFoundError: when it is gone.
        BadDataError: when its files are damaged or do not belong together.
    """
    try:
        card = json.loads(storage.read(f"{model_key}/model_card.json"))
        weights = load_safetensors(storage.read(f"{model_key}/model.safetensors"))
    except FileNotFoundError as error:
        raise NotFoundError("The files of this model are gone.", "Train it again.") from error
    except (ValueError, SafetensorError) as error:
        raise BadDataError("The files of this model are damaged.", "Train it again.") from error
    task_type = TaskType(card["task_type"])
    spec = ModelSpec(**{**card["spec"], "task_types": tuple(TaskType(name) for name in card["spec"]["task_types"])})
    network = build(
        spec, task_type, len(card["classes"]), pretrained=False, settings=settings, image_size=int(card["preprocessing"]["size"][0])
    )
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise BadDataError("The weights of this model do not fit its network any more.", "Train it again with this version.") from error
    return LoadedModel(card, network.eval().to(memory_format=torch.channels_last), task_type)


def predict(model_key: str, image: bytes, *, name: str = "", storage: Storage, settings: Settings) -> dict[str, Any]:
    """What a model says of one image file; of a DICOM file, which its `name` may tell, as its import would show it.

    Returns:
        `labels`: the five most confident, or for several labels an image all of them with `present` (at or above the class's threshold);
        of a detector one per object, with what `find_objects` says of it; for regions one per class that is seen, as `find_regions` says; each with `label` and `confidence`. `picture_key`: where a heat
        map of the first label lies, or the drawing of objects or regions; missing where the network has no map. `frames`: how many pictures the
        file holds, where it is more than the one that this is said of.

    Raises:
        BadDataError: when the image cannot be read.
        NotFoundError: when the model's files are gone.
    """
    pictures = read_pictures(image, name, settings.max_image_pixels)
    torch.set_num_threads(usable_cores())
    model = load_model(model_key, storage=storage, settings=settings)
    answer, picture = _said(model, pictures[0].data)
    if (frames := max(pictures[0].frames, len(pictures))) > 1:
        answer["frames"] = frames
    if picture is not None:
        answer["picture_key"] = _kept(picture, storage)
    return answer


def predict_all(
    model_key: str,
    images: Mapping[str, str],
    *,
    storage: Storage,
    settings: Settings,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[dict[str, Any]]:
    """What a model says of many images, without pictures.

    Args:
        model_key: the model's folder.
        images: name → storage key of each image file.
        storage: where model and images lie.
        settings: of the installation.
        progress: told how many of how many are done.

    Returns:
        For each image its name as `file`, and `labels` as `predict` gives them, or `error` where it cannot be read.

    Raises:
        NotFoundError, BadDataError: when the model's files are gone or damaged.
    """
    torch.set_num_threads(usable_cores())
    model = load_model(model_key, storage=storage, settings=settings)
    answers: list[dict[str, Any]] = []
    for done, (name, key) in enumerate(images.items()):
        progress(done, len(images))
        try:
            upright = read_pictures(storage.read(key), name, settings.max_image_pixels)[0].data
            answer, _ = _said(model, upright, draw=False)
        except BadDataError as error:
            answer = {"error": error.what}
        answers.append({"file": name, **answer})
    return answers


def _said(model: LoadedModel, upright: bytes, draw: bool = True) -> tuple[dict[str, Any], bytes | None]:
    """What a model says of an image, and a picture of where, if it is to be drawn and there is any."""
    images = model.prepare(upright)
    if model.task_type in (TaskType.OBJECT_DETECTION, TaskType.OBJECT_SEGMENTATION):
        with Image.open(BytesIO(upright)) as opened:
            if model.task_type is TaskType.OBJECT_DETECTION or model.gives_instances:
                found = find_objects(model.network, images, opened.size, model.classes, model.card.get("thresholds", ()))
                drawing = drawing_of
            else:
                found = find_regions(model.network, images, opened.size, model.classes, exclusive=model.exclusive)
                drawing = drawing_of_regions
            return {"labels": found}, drawing(opened, found, model.classes) if draw else None
    logits, heat = activation_map(model.network, images) if draw else (_logits(model, images), None)
    several = model.task_type is TaskType.MULTI_LABEL
    confidences = logits.sigmoid() if several else logits.softmax(0)
    order = confidences.argsort(descending=True).tolist()
    labels: list[dict[str, Any]] = [{"label": model.classes[index], "confidence": float(confidences[index])} for index in order]
    if several:
        thresholds = model.card.get("thresholds") or [0.5] * len(model.classes)
        for item, index in zip(labels, order, strict=True):
            item["present"] = item["confidence"] >= thresholds[index]
    else:
        labels = labels[:_LABELS]
    if heat is None:
        return {"labels": labels}, None
    with Image.open(BytesIO(upright)) as opened:
        return {"labels": labels}, heat_over(opened, heat, labels[0]["label"], labels[0]["confidence"])


@torch.inference_mode()
def _logits(model: LoadedModel, images: torch.Tensor) -> torch.Tensor:
    logits: torch.Tensor = model.network(images)[0].float()
    return logits


def _kept(picture: bytes, storage: Storage) -> str:
    key = f"{PREDICTIONS}/{new_id()}.png"
    storage.write(key, picture)
    return key
