"""Detectors of torchvision, whole or over a feature pyramid on a timm backbone: Faster R-CNN, Mask R-CNN, RetinaNet, FCOS, SSD.

All detectors here and in `detection_transformers` speak one language. `detector(images, targets)` with normalised images [N, 3, H, W] and for each
a target `{"boxes": [n, 4] in pixels as x1, y1, x2, y2, "labels": [n] from 0}` (Mask R-CNN also `"masks"`: [n, H, W] of 0 and 1) gives the losses by name;
`detector(images)` in evaluation mode gives for each image `{"boxes", "labels", "scores"}`, best first (and `"masks"`: [n, 1, H, W] of probabilities).
The losses may be summed; an image without objects has n = 0.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as functional
import torchvision
from torch import Tensor, nn
from torchvision.models import _api as torchvision_api
from torchvision.models import detection as library
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from core.zoo.spec import ModelSpec
from worker.networks import loading, pyramids
from worker.networks.measuring import Memory
from worker.networks.rows import NetworkRow, WeightRow

Targets = list[dict[str, Tensor]]
INPUT_SIZE = 640  # of detectors over timm backbones; COCO's detectors were trained at 800, which few GPUs take in large batches

WHOLE = {
    "fasterrcnn_resnet50_fpn": "Faster R-CNN",
    "fasterrcnn_resnet50_fpn_v2": "Faster R-CNN",
    "fasterrcnn_mobilenet_v3_large_fpn": "Faster R-CNN",
    "fasterrcnn_mobilenet_v3_large_320_fpn": "Faster R-CNN",
    "retinanet_resnet50_fpn": "RetinaNet",
    "retinanet_resnet50_fpn_v2": "RetinaNet",
    "fcos_resnet50_fpn": "FCOS",
    "ssd300_vgg16": "SSD",
    "ssdlite320_mobilenet_v3_large": "SSD",
    "maskrcnn_resnet50_fpn": "Mask R-CNN",
    "maskrcnn_resnet50_fpn_v2": "Mask R-CNN",
}
WHOLE_SIZES = {"ssd300_vgg16": 300, "ssdlite320_mobilenet_v3_large": 320, "fasterrcnn_mobilenet_v3_large_320_fpn": 320}
WITHOUT_EPSILON = ("fasterrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn", "retinanet_resnet50_fpn")
# SSD's preprocessing is that of its authors; ssdlite's is TensorFlow's; the others are ImageNet's.
WHOLE_NORMALISATIONS = {
    "ssd300_vgg16": ((0.48235, 0.45882, 0.40784), (1 / 255, 1 / 255, 1 / 255)),
    "ssdlite320_mobilenet_v3_large": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
# What gives offsets of boxes, or masks that are stretched over them.
REGRESSING = ("rpn.head", "roi_heads.box_predictor", "roi_heads.mask_predictor", "head")
HEADS = ("roi_heads.box_predictor", "roi_heads.mask_predictor", "head.classification_head")  # layers that depend on the number of classes

LEAST_SCORE = 0.05  # of what FCOS tells, as the other detectors have it; torchvision's own says nothing below 0.2
DISTANCES = "head.regression_head.bbox_reg"  # of FCOS: from a place to the sides of its box

OVER_PYRAMIDS = {"faster_rcnn": "Faster R-CNN", "retinanet": "RetinaNet", "fcos": "FCOS"}
MASKS_OVER_PYRAMIDS = {"mask_rcnn": "Mask R-CNN"}


class AsItComes(GeneralizedRCNNTransform):
    """Takes the place of torchvision's resizing and normalising: images come as one batch, ready."""

    def __init__(self) -> None:
        super().__init__(0, 0, [0.0, 0.0, 0.0], [1.0, 1.0, 1.0])

    def forward(self, images: Any, targets: Targets | None = None) -> tuple[ImageList, Targets | None]:
        """The batch [N, 3, H, W] and its sizes; nothing is changed."""
        height, width = images.shape[-2:]
        return ImageList(images, [(height, width)] * len(images)), targets


class Detector(nn.Module):
    """One of torchvision's detectors behind the language of this module. Its own labels count from 1, 0 is the background."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.inner.transform = AsItComes()
        for name in REGRESSING:
            if _has(inner, name):
                inner.get_submodule(name).register_forward_hook(lambda _module, _inputs, outputs: _exact(outputs))
        for part in inner.modules():
            if isinstance(part, (AnchorGenerator, DefaultBoxGenerator)):
                part.register_forward_pre_hook(lambda _module, inputs: (inputs[0], [_as_exact(level) for level in inputs[1]]))
        if isinstance(inner, library.FCOS):
            inner.get_submodule(DISTANCES).register_forward_hook(lambda _module, _inputs, outputs: _never_dead(outputs))

    def forward(self, images: Tensor, targets: Targets | None = None) -> Any:
        """Losses by name in training, detections by image in evaluation."""
        if self.training and targets is not None:
            return self.inner(images, [target | {"labels": target["labels"] + 1} for target in targets])
        found: Targets = self.inner(images)
        return [one | {"labels": one["labels"] - 1} for one in found]


def convolves_regions(network: nn.Module) -> bool:
    """Whether it convolves each region that may show something, for masks or boxes: of those there are as many as an image has."""
    return any(isinstance(part, nn.Conv2d) and ".roi_heads." in name for name, part in network.named_modules())


def _has(module: nn.Module, name: str) -> bool:
    return any(found == name for found, _ in module.named_modules())


def _exact(outputs: Any) -> Any:
    """The same in single precision: torchvision reckons boxes in whatever type offsets come, and bfloat16 knows a place near 500 px to 2 px only."""
    if isinstance(outputs, Tensor):
        return outputs.float()
    if isinstance(outputs, dict):
        return {name: _exact(value) for name, value in outputs.items()}
    return type(outputs)(_exact(value) for value in outputs)


def _as_exact(level: Tensor) -> Tensor:
    """What tells an anchor generator the shape of a level, in single precision: its anchors have the level's type."""
    return level if level.dtype == torch.float32 else level.new_empty(1, dtype=torch.float32).expand(level.shape)


def _never_dead(distances: Tensor) -> Tensor:
    """Distances from a place to the sides of its box, before torchvision's ReLU, as what it leaves as it is: nearly the same above 0, small below.

    The ReLU alone gives no gradient below 0: a side that has come there for all places never comes back, and boxes lack it.
    """
    return functional.softplus(distances.float(), beta=5)


# ---------------------------------------------------------------- building


def build(spec: ModelSpec, classes: int, image_size: int | None = None) -> Detector:
    """The detector of an entry for so many classes, with random weights."""
    if spec.network in WHOLE:
        return Detector(build_whole(spec.network, classes, pretrained=spec.pretraining != "none"))
    head, _, backbone = spec.network.partition("-")
    return Detector(BUILDERS[head](backbone, classes))


def build_whole(name: str, classes: int, *, pretrained: bool) -> nn.Module:
    """torchvision's own detector. The background counts as a class; with COCO's weights the backbone's batch norms are frozen, as they were trained."""
    options: dict[str, Any] = {"weights": None, "weights_backbone": None, "num_classes": classes + 1}
    if name.startswith("fcos"):
        options["score_thresh"] = LEAST_SCORE
    if name.startswith("fasterrcnn_mobilenet"):
        # By default nothing that the first stage is less than 5 % sure of comes to the second, in learning neither: little is, of objects that COCO lacks.
        options["rpn_score_thresh"] = 0.0
    if name == "fasterrcnn_mobilenet_v3_large_320_fpn":
        options |= {"rpn_pre_nms_top_n_test": 500, "rpn_post_nms_top_n_test": 300}  # instead of 150: dense scenes have more objects
    detector: nn.Module = torchvision_api.get_model(name, **options)
    if pretrained and "_v2" not in name and not name.startswith("ssd"):
        # The oldest three were trained with Caffe's weights, whose batch norms know no epsilon.
        freeze_batch_norms(detector.get_submodule("backbone"), 0.0 if name in WITHOUT_EPSILON else 1e-5)
    if pretrained and "resnet" in name:
        # As torchvision's own training has it: edges and colours are the same everywhere.
        for part in ("conv1", "bn1", "layer1"):
            detector.get_submodule(f"backbone.body.{part}").requires_grad_(False)
    return detector


def freeze_batch_norms(module: nn.Module, epsilon: float) -> None:
    """Replace batch norms by torchvision's frozen ones, which COCO's weights were made for (they hold no `num_batches_tracked`)."""
    for name, part in module.named_children():
        if isinstance(part, nn.BatchNorm2d):
            setattr(module, name, torchvision.ops.FrozenBatchNorm2d(part.num_features, epsilon))
        else:
            freeze_batch_norms(part, epsilon)


def _anchors(strides: Sequence[int], scales: Sequence[float], ratios: Sequence[float] = (0.5, 1.0, 2.0)) -> AnchorGenerator:
    """Anchors whose sides are multiples of their level's stride, whatever the input size."""
    return AnchorGenerator(tuple(tuple(round(stride * scale) for scale in scales) for stride in strides), (tuple(ratios),) * len(strides))


def build_faster_rcnn(backbone: str, classes: int, **options: Any) -> nn.Module:
    """Faster R-CNN (Ren et al. 2015) over strides 4–64. Two anchor scales a level reach down to objects of some 12 px."""
    pyramid = pyramids.Pyramid(backbone)
    light = pyramid.out_channels == pyramids.LIGHT_CHANNELS
    return library.FasterRCNN(
        pyramid,
        num_classes=None,
        rpn_anchor_generator=_anchors((4, 8, 16, 32, 64), (4, 5.7)),
        box_roi_pool=MultiScaleRoIAlign(["0", "1", "2", "3"], 7, 2),
        box_head=TwoMLPHead(pyramid.out_channels * 49, 256 if light else 1024),
        box_predictor=library.faster_rcnn.FastRCNNPredictor(256 if light else 1024, classes + 1),
        **_rpn_of(light=light),
        **options,
    )


def build_mask_rcnn(backbone: str, classes: int) -> nn.Module:
    """Mask R-CNN (He et al. 2017) over strides 4–64."""
    pyramid = pyramids.Pyramid(backbone)
    light = pyramid.out_channels == pyramids.LIGHT_CHANNELS
    width = 96 if light else 256
    return library.MaskRCNN(
        pyramid,
        num_classes=None,
        rpn_anchor_generator=_anchors((4, 8, 16, 32, 64), (4, 5.7)),
        box_roi_pool=MultiScaleRoIAlign(["0", "1", "2", "3"], 7, 2),
        box_head=TwoMLPHead(pyramid.out_channels * 49, 256 if light else 1024),
        box_predictor=library.faster_rcnn.FastRCNNPredictor(256 if light else 1024, classes + 1),
        mask_roi_pool=MultiScaleRoIAlign(["0", "1", "2", "3"], 14, 2),
        mask_head=MaskRCNNHeads(pyramid.out_channels, (width,) * 4, 1),
        mask_predictor=MaskRCNNPredictor(width, width, classes + 1),
        **_rpn_of(light=light),
    )


def _rpn_of(*, light: bool) -> dict[str, Any]:
    """Fewer proposals for light networks: their cost would be most of a step on a CPU."""
    if not light:
        return {}
    return {
        "rpn_pre_nms_top_n_train": 1000,
        "rpn_post_nms_top_n_train": 500,
        "rpn_pre_nms_top_n_test": 500,
        "rpn_post_nms_top_n_test": 300,
        "box_batch_size_per_image": 128,
    }


def build_retinanet(backbone: str, classes: int) -> nn.Module:
    """RetinaNet (Lin et al. 2017) over strides 8–128, three scales an octave."""
    pyramid = pyramids.Pyramid(backbone, 8, LastLevelP6P7(1, 1))
    anchors = _anchors((8, 16, 32, 64, 128), (3, 3.78, 4.76))
    head = library.retinanet.RetinaNetHead(
        pyramid.out_channels, anchors.num_anchors_per_location()[0], classes + 1, norm_layer=partial(nn.GroupNorm, pyramids.GROUPS)
    )
    return library.RetinaNet(pyramid, classes + 1, anchor_generator=anchors, head=head)


def build_fcos(backbone: str, classes: int) -> nn.Module:
    """FCOS (Tian et al. 2019) over strides 8–128: no anchors, one box a place, at first of four strides, which is half of the largest it may have."""
    pyramid = pyramids.Pyramid(backbone, 8, LastLevelP6P7(1, 1))
    fcos = library.FCOS(pyramid, classes + 1, score_thresh=LEAST_SCORE)
    nn.init.constant_(fcos.get_submodule(DISTANCES).get_parameter("bias"), 2.0)
    return fcos


BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "faster_rcnn": build_faster_rcnn,
    "mask_rcnn": build_mask_rcnn,
    "retinanet": build_retinanet,
    "fcos": build_fcos,
}


def load(detector: nn.Module, spec: ModelSpec, path: Path, image_size: int | None = None) -> None:
    """Load an entry's weights: the whole detector but its class layers, or the backbone under its pyramid.

    Raises:
        UnavailableError: when the file does not belong to it.
    """
    inner = detector.get_submodule("inner")
    if spec.network in WHOLE:
        loading.put(loading.read(path), inner, HEADS, path)
    else:
        pyramids.load_features(inner.get_submodule("backbone.body"), spec, spec.network.partition("-")[2], path)


# ---------------------------------------------------------------- catalogue


def _forward(detector: nn.Module, images: Tensor) -> object:
    """What a training step runs, proposals apart, which depend on values: as many regions as are sampled go through the heads."""
    inner: Any = detector.get_submodule("inner")
    levels = inner.backbone(images)
    levels = list(levels.values()) if isinstance(levels, dict) else [levels]
    if not hasattr(inner, "rpn"):
        return inner.head(levels)
    heads, sampler, channels = inner.roi_heads, inner.roi_heads.fg_bg_sampler, inner.backbone.out_channels
    found = [inner.rpn.head(levels), heads.box_predictor(heads.box_head(images.new_empty(sampler.batch_size_per_image, channels, 7, 7)))]
    if heads.has_mask():
        objects = round(sampler.batch_size_per_image * sampler.positive_fraction)
        found.append(heads.mask_predictor(heads.mask_head(images.new_empty(objects, channels, 14, 14))))
    return found


def rows(classified: dict[str, tuple[NetworkRow, list[WeightRow]]], memory: Memory) -> Iterator[tuple[NetworkRow, list[WeightRow]]]:
    """Every detector with its weights; those over timm backbones take the backbones' weights from `classified`."""
    for name, family in WHOLE.items():
        yield _whole_row(name, family, memory)
    for heads, task_types, instances in ((OVER_PYRAMIDS, "detection", False), (MASKS_OVER_PYRAMIDS, "segmentation", True)):
        for head, family in heads.items():
            for backbone in pyramids.BACKBONES:
                if backbone in classified:
                    yield _pyramid_row(f"{head}-{backbone}", family, task_types, instances, classified[backbone], memory)


def _whole_row(name: str, family: str, memory: Memory) -> tuple[NetworkRow, list[WeightRow]]:
    side = WHOLE_SIZES.get(name, 800)
    masks = family == "Mask R-CNN"
    fixed = name == "ssd300_vgg16"  # its anchors are laid out for 300 px
    measured = memory.measure(
        name, lambda _: Detector(build_whole(name, 7, pretrained=False)), side, _forward, sizes=None if fixed else (64, 32)
    )
    row = NetworkRow.of(
        name,
        measured,
        input_size=side,
        library="torchvision",
        family=family,
        task_types="segmentation" if masks else "detection",
        recipe="detector",
        instances_only=masks,
    )
    choice = next(iter(torchvision_api.get_model_weights(name)))
    metrics = choice.meta["_metrics"]["COCO-val2017"]
    mean, std = WHOLE_NORMALISATIONS.get(name, ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    weight = WeightRow(
        network=name,
        pretraining="coco",
        pretrained_on="COCO",
        licence="BSD-3-Clause",
        source=choice.url,
        sha256=loading.hash_in(choice.url),
        normalisation=WeightRow.normalisation_of(mean, std),
        interpolation="bilinear",
        accuracy=round(metrics["mask_map" if masks else "box_map"] / 100, 5),
        accuracy_source="torchvision-masks" if masks else "torchvision-coco",
    )
    return row, [weight]


def _pyramid_row(
    network: str, family: str, task_types: str, instances: bool, classified: tuple[NetworkRow, list[WeightRow]], memory: Memory
) -> tuple[NetworkRow, list[WeightRow]]:
    """A network over a backbone, with the backbone's few best weights of each licence."""
    backbone, weights = classified
    head = network.partition("-")[0]
    measured = memory.measure(network, lambda _: Detector(BUILDERS[head](backbone.network, 7)), INPUT_SIZE, _forward, sizes=(64, 32))
    row = NetworkRow.of(
        network,
        measured,
        input_size=INPUT_SIZE,
        variation=f"{family} on {backbone.network}",
        library="torchvision over timm",
        family=family,
        task_types=task_types,
        recipe="detector" if backbone.recipe == "convolutional" else "modern-detector",
        instances_only=instances,
    )
    return row, backbone_weights(network, weights, 3)


def backbone_weights(network: str, weights: list[WeightRow], most: int) -> list[WeightRow]:
    """The best of the same weights, and those of one domain, of which only the backbone's part is used.

    Their accuracy as a classifier says nothing of this network.
    """
    allowed = [row for row in weights if row.licence in ("Apache-2.0", "MIT", "BSD-3-Clause")]
    chosen = allowed[:most] + [row for row in allowed[most:] if row.data_types]
    return [
        WeightRow(
            network=network,
            pretraining=row.pretraining,
            pretrained_on=f"{row.pretrained_on} (backbone)",
            licence=row.licence,
            source=row.source,
            sha256=row.sha256,
            normalisation=row.normalisation,
            interpolation=row.interpolation,
            data_types=row.data_types,
        )
        for row in chosen
    ]
