"""Weights of every family, in the form in which their source has them, load into a network with other classes; nothing but the outputs stays random."""

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from core.errors import UnavailableError
from core.settings import Settings
from core.zoo import catalogue
from core.zoo.spec import ModelSpec
from worker.networks import build, classification, detection, detection_transformers, library_of, segmentation

CLASSES = 3
MOST = 120_000_000  # parameters; a family's smallest has fewer


def smallest_of_each_family() -> list[ModelSpec]:
    """Of each kind of network and family the pre-trained entry with the least work, one whose weights have outputs and one whose have none."""
    found: dict[tuple[object, ...], ModelSpec] = {}
    for spec in sorted(catalogue.entries(), key=lambda spec: (spec.gmacs, spec.name)):
        if spec.pretraining == catalogue.NONE or spec.parameters > MOST or spec.source.startswith("package:") or spec.data_types:
            continue
        outputs = None
        if spec.library == "timm":
            outputs = classification.timm_config(spec).num_classes > 0
        found.setdefault((spec.library, spec.family, outputs), spec)
    return list(found.values())


def as_published(spec: ModelSpec) -> nn.Module:
    """A network with the outputs that the published weights have."""
    if spec.library == "transformers":
        return transformer_as_published(spec.network)
    if spec.network in detection.WHOLE:
        return detection.build_whole(spec.network, 90, pretrained=True)
    if spec.network in segmentation.WHOLE:
        return segmentation.build_whole(spec.network, 21).get_submodule("inner")
    if spec.library in ("torchvision over timm", "segmentation-models-pytorch"):
        backbone = spec.network.partition("-")[2]
        return timm.create_model(backbone, num_classes=1000)
    if spec.library == "torchvision":
        return classification.build_torchvision(spec.network.removeprefix("tv_"), 1000)
    config = classification.timm_config(spec)
    return timm.create_model(spec.network, pretrained=False, pretrained_cfg=config, num_classes=config.num_classes)


def transformer_as_published(network: str, *, frozen: bool = True) -> nn.Module:
    """Published ones were saved by networks whose batch norms in the backbone are frozen, those trained elsewhere may have been by others."""
    config = detection_transformers.configuration(network, 91)
    config.freeze_backbone_batch_norms = frozen
    return detection_transformers.model_class(network)(config)


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("spec", smallest_of_each_family(), ids=lambda spec: spec.name)
def test_weights_of_each_family(tmp_path, spec):
    settings = Settings(home=tmp_path / "home", offline=True, _env_file=None)
    torch.manual_seed(1)
    source = as_published(spec)
    file = tmp_path / "model.safetensors"
    save_file({name: value.detach().clone().contiguous() for name, value in source.state_dict().items()}, file)
    torch.manual_seed(2)
    network = build(spec, spec.task_types[0], CLASSES, pretrained=False, settings=settings)
    library_of(spec).load(network, spec, file, None)
    given = {value.sum().item() for value in source.state_dict().values() if value.is_floating_point()}
    pretrained = network  # all of it, but the layers of the classes
    if spec.library == "torchvision over timm":
        pretrained = network.get_submodule("inner.backbone.body")
    elif spec.library == "segmentation-models-pytorch":
        pretrained = network.get_submodule("encoder.model")
    parameters = list(pretrained.parameters())
    taken_over = sum(value.detach().sum().item() in given for value in parameters)
    assert taken_over >= 0.9 * len(parameters) - 4, f"{taken_over} of {len(parameters)} tensors are the source's"


@pytest.mark.parametrize(("network", "other"), [("dfine-nano", "dfine-small"), ("rf-detr-nano", "dfine-nano")])
def test_weights_of_another_detection_transformer_are_refused(tmp_path, network, other):
    settings = Settings(home=tmp_path / "home", offline=True, _env_file=None)
    spec = catalogue.find_spec(network, "none", settings)
    source = transformer_as_published(other)
    file = tmp_path / "model.safetensors"
    save_file({name: value.detach().clone().contiguous() for name, value in source.state_dict().items()}, file)
    detector = build(spec, spec.task_types[0], CLASSES, settings=settings)
    with pytest.raises(UnavailableError, match="does not hold"):
        library_of(spec).load(detector, spec, file, None)


def test_weights_of_detection_transformers_load_whatever_their_classes(tmp_path):
    """D-FINE's class layers are tied to one another: the library could not load them into others of another shape."""
    test_weights_of_each_family(tmp_path, next(spec for spec in catalogue.of_network("dfine-nano") if spec.pretraining == "coco"))


@pytest.mark.parametrize("network", ["rtdetr_v2_r18vd", "dfine-nano"])
@pytest.mark.parametrize("frozen", [True, False])
def test_detection_transformers_begin_with_the_published_batch_statistics_and_learn_them_on(tmp_path, network, frozen):
    """The library would keep those of a backbone for ever, from scratch a mean of 0 and a variance of 1."""
    settings = Settings(home=tmp_path / "home", offline=True, _env_file=None)
    spec = catalogue.find_spec(network, "coco", settings)
    published = transformer_as_published(network, frozen=frozen).state_dict()
    file = tmp_path / "model.safetensors"
    save_file({name: value + 0.25 if name.endswith("running_mean") else value.clone() for name, value in published.items()}, file)
    detector = build(spec, spec.task_types[0], CLASSES, pretrained=False, settings=settings)
    library_of(spec).load(detector, spec, file, None)
    backbone = detector.get_submodule("inner.model.backbone")
    means = [module.running_mean for module in backbone.modules() if isinstance(module, nn.BatchNorm2d)]
    assert means and all((mean == 0.25).all() for mean in means)
    detector.train()(torch.rand(2, 3, 256, 256), [{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)}] * 2)
    assert all((mean != 0.25).all() for mean in means)
