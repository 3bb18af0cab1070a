"""Networks for regions: segmentation-models-pytorch over timm encoders, and torchvision's DeepLabV3, FCN and LR-ASPP.

All give logits [N, classes, H, W] at the size of their input, one channel a class and none for the background: a place may belong to several classes, or
to none. (Networks for instances are detectors with masks: see `worker.networks.detection`.)
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torchvision.models import _api as torchvision_api

from core.zoo.spec import ModelSpec
from worker.networks import loading, pyramids
from worker.networks.detection import backbone_weights
from worker.networks.measuring import Memory
from worker.networks.rows import NetworkRow, WeightRow

INPUT_SIZE = 512

# Slug → name of the decoder in segmentation-models-pytorch, and as people read it.
DECODERS = {
    "unet": ("unet", "U-Net"),
    "unetplusplus": ("unetplusplus", "U-Net++"),
    "fpn": ("fpn", "FPN"),
    "deeplabv3plus": ("deeplabv3plus", "DeepLabV3+"),
    "pan": ("pan", "PAN"),
    "upernet": ("upernet", "UPerNet"),
    "segformer": ("segformer", "SegFormer"),
}
ENCODERS = [
    "tf_efficientnet_lite0",
    "tf_efficientnet_lite1",
    "tf_efficientnet_lite4",
    "efficientnet_b0",
    "efficientnet_b2",
    "tf_efficientnetv2_s",
    "mobilenetv3_large_100",
    "mobilenetv4_conv_medium",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnext50_32x4d",
    "seresnet50",
    "regnety_008",
    "regnety_032",
    "convnext_nano",
    "convnext_tiny",
    "convnext_small",
    "convnextv2_tiny",
    "hrnet_w18",
    "pvt_v2_b2",
    "caformer_s18",
]
# Decoders that need the level at half the size, which networks with a patch stem of 4 lack, or dilated convolutions in the encoder.
NEEDS_HALF = ("unetplusplus",)
NEEDS_DILATION = ("deeplabv3plus", "pan")
# Networks whose timm version cannot be dilated.
UNDILATED = ("hrnet_", "pvt_", "caformer_")
PATCH_STEMS = ("convnext", "pvt_", "caformer_")

WHOLE = {
    "deeplabv3_mobilenet_v3_large": "DeepLabV3",
    "deeplabv3_resnet50": "DeepLabV3",
    "deeplabv3_resnet101": "DeepLabV3",
    "fcn_resnet50": "FCN",
    "fcn_resnet101": "FCN",
    "lraspp_mobilenet_v3_large": "LR-ASPP",
}
WHOLE_SIDE = 520
HEADS = ("classifier.4.", "classifier.low_classifier", "classifier.high_classifier", "aux_classifier")


class Whole(nn.Module):
    """torchvision's segmentation networks give several outputs by name; this gives the one that counts."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, images: Tensor) -> Tensor:
        """Logits [N, classes, H, W]."""
        found: Tensor = self.inner(images)["out"]
        return found


def build(spec: ModelSpec, classes: int, image_size: int | None = None) -> nn.Module:
    """The network of an entry for so many classes, with random weights."""
    if spec.network in WHOLE:
        return build_whole(spec.network, classes)
    decoder, _, encoder = spec.network.partition("-")
    return build_over(decoder, encoder, classes)


def build_whole(name: str, classes: int) -> Whole:
    """torchvision's own network, without its auxiliary output."""
    options: dict[str, Any] = {"weights": None, "weights_backbone": None, "num_classes": classes}
    if not name.startswith("lraspp"):
        options["aux_loss"] = False
    return Whole(torchvision_api.get_model(name, **options))


def build_over(decoder: str, encoder: str, classes: int) -> nn.Module:
    """A decoder over a timm encoder."""
    import segmentation_models_pytorch as smp  # slow to import, needed only here

    network: nn.Module = smp.create_model(
        DECODERS[decoder][0], encoder_name=f"tu-{encoder}", encoder_weights=None, in_channels=3, classes=classes
    )
    return network


def load(network: nn.Module, spec: ModelSpec, path: Path, image_size: int | None = None) -> None:
    """Load an entry's weights: the whole network but its outputs, or the encoder.

    Raises:
        UnavailableError: when the file does not belong to it.
    """
    if spec.network in WHOLE:
        weights = {name: value for name, value in loading.read(path).items() if not name.startswith("aux_classifier")}
        loading.put(weights, network.get_submodule("inner"), HEADS, path)
    else:
        pyramids.load_features(network.get_submodule("encoder.model"), spec, spec.network.partition("-")[2], path)


def combinations() -> Iterator[tuple[str, str]]:
    """Decoders and encoders that go together."""
    for decoder in DECODERS:
        for encoder in ENCODERS:
            if decoder in NEEDS_DILATION and encoder.startswith(UNDILATED):
                continue
            if decoder in NEEDS_HALF and encoder.startswith(PATCH_STEMS):
                continue
            yield decoder, encoder


def rows(classified: dict[str, tuple[NetworkRow, list[WeightRow]]], memory: Memory) -> Iterator[tuple[NetworkRow, list[WeightRow]]]:
    """Every network for regions with its weights; encoders' weights come from `classified`."""
    for name, family in WHOLE.items():
        yield _whole_row(name, family, memory)
    for decoder, encoder in combinations():
        if encoder in classified:
            yield _row_over(decoder, encoder, classified[encoder][1], memory)


def _whole_row(name: str, family: str, memory: Memory) -> tuple[NetworkRow, list[WeightRow]]:
    measured = memory.measure(name, lambda _: build_whole(name, 7), WHOLE_SIDE, sizes=(64, 8))
    row = NetworkRow.of(
        name, measured, input_size=WHOLE_SIDE, library="torchvision", family=family, task_types="segmentation", recipe="segmenter"
    )
    choice = next(iter(torchvision_api.get_model_weights(name)))
    transform = choice.transforms()
    weight = WeightRow(
        network=name,
        pretraining="coco-voc",
        pretrained_on="COCO, with the classes of Pascal VOC",
        licence="BSD-3-Clause",
        source=choice.url,
        sha256=loading.hash_in(choice.url),
        normalisation=WeightRow.normalisation_of(tuple(transform.mean), tuple(transform.std)),
        interpolation="bilinear",
        accuracy=round(choice.meta["_metrics"]["COCO-val2017-VOC-labels"]["miou"] / 100, 5),
        accuracy_source="torchvision-voc",
    )
    return row, [weight]


def _row_over(decoder: str, encoder: str, weights: list[WeightRow], memory: Memory) -> tuple[NetworkRow, list[WeightRow]]:
    name = f"{decoder}-{encoder}"
    measured = memory.measure(
        name, lambda _: build_over(decoder, encoder, 7), INPUT_SIZE, sizes=(128 if decoder == "pan" else 64, 32)
    )  # PAN halves the coarsest level three times more
    row = NetworkRow.of(
        name,
        measured,
        input_size=INPUT_SIZE,
        variation=f"{DECODERS[decoder][1]} on {encoder}",
        library="segmentation-models-pytorch",
        family=DECODERS[decoder][1],
        task_types="segmentation",
        recipe="modern-segmenter" if encoder.startswith(PATCH_STEMS) else "segmenter",
    )
    return row, backbone_weights(name, weights, 2)
