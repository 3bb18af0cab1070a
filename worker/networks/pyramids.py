"""timm's networks as backbones: which of them give a feature pyramid, how it is built, and its weights taken from the classification network's."""

from collections import OrderedDict
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock, LastLevelMaxPool

from core.errors import UnavailableError
from core.zoo.spec import ModelSpec
from worker.networks import classification

# Hierarchical networks that take any size and give strides 4, 8, 16 and 32, small to large within a family.
BACKBONES = [
    "tf_efficientnet_lite0",
    "tf_efficientnet_lite1",
    "tf_efficientnet_lite2",
    "tf_efficientnet_lite3",
    "tf_efficientnet_lite4",
    "efficientnet_b0",
    "efficientnet_b1",
    "efficientnet_b2",
    "efficientnet_b3",
    "tf_efficientnetv2_b0",
    "tf_efficientnetv2_b3",
    "tf_efficientnetv2_s",
    "tf_efficientnetv2_m",
    "mobilenetv3_small_100",
    "mobilenetv3_large_100",
    "mobilenetv4_conv_small",
    "mobilenetv4_conv_medium",
    "mobilenetv4_conv_large",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnet50d",
    "resnext50_32x4d",
    "resnext101_32x8d",
    "wide_resnet50_2",
    "seresnet50",
    "seresnext50_32x4d",
    "res2net50_26w_4s",
    "resnest50d",
    "regnety_004",
    "regnety_008",
    "regnety_016",
    "regnety_032",
    "regnety_040",
    "regnety_080",
    "regnetx_008",
    "regnetx_032",
    "densenet121",
    "densenet169",
    "convnext_atto",
    "convnext_nano",
    "convnext_tiny",
    "convnext_small",
    "convnext_base",
    "convnextv2_atto",
    "convnextv2_nano",
    "convnextv2_tiny",
    "convnextv2_base",
    "hrnet_w18",
    "hrnet_w32",
    "hgnetv2_b0",
    "hgnetv2_b2",
    "hgnetv2_b4",
    "pvt_v2_b1",
    "pvt_v2_b2",
    "caformer_s18",
    "convformer_s18",
    "poolformerv2_s12",
    "edgenext_small",
    "inception_next_tiny",
    "repvit_m1",
    "vgg16_bn",
]
STRIDES = (4, 8, 16, 32)
# Networks with fewer parameters get a lighter pyramid: a wide head on a small backbone would cost more than the backbone.
LIGHT_BELOW = 12_000_000
LIGHT_CHANNELS, FULL_CHANNELS = 96, 256
GROUPS = 32


class Pyramid(nn.Module):
    """A timm backbone under torchvision's feature pyramid network (Lin et al. 2017): images [N, 3, H, W] → levels of `out_channels` each."""

    def __init__(self, network: str, first_stride: int = 4, extra: ExtraFPNBlock | None = None) -> None:
        super().__init__()
        self.body = features(network)
        levels: Any = self.body.feature_info
        reductions = levels.reduction()
        self.used = tuple(reductions.index(stride) for stride in STRIDES if stride >= first_stride)
        channels = [levels.channels()[index] for index in self.used]
        self.out_channels = LIGHT_CHANNELS if sum(p.numel() for p in self.body.parameters()) < LIGHT_BELOW else FULL_CHANNELS
        if extra is not None and hasattr(extra, "p6"):
            extra = type(extra)(self.out_channels, self.out_channels)
        # Normalised, because backbones without a last activation (lite0) give levels so large that the first losses are in the dozens.
        self.fpn = FeaturePyramidNetwork(
            channels, self.out_channels, extra_blocks=extra or LastLevelMaxPool(), norm_layer=partial(nn.GroupNorm, GROUPS)
        )

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        """Levels from fine to coarse, named 0, 1, …, and the extra ones."""
        levels = self.body(images)
        found: OrderedDict[str, Tensor] = self.fpn(OrderedDict((str(number), levels[index]) for number, index in enumerate(self.used)))
        return found


def features(network: str) -> nn.Module:
    """timm's network without its head, giving all its levels."""
    module: nn.Module = timm.create_model(network, features_only=True, pretrained=False)
    return module


def load_features(module: nn.Module, spec: ModelSpec, network: str, path: Path) -> None:
    """Load the classification weights of `network` into what `features` built.

    Raises:
        UnavailableError: when a tensor is missing there.
    """
    of_network = replace(spec, network=network, library="timm", fixed_size=False, sized_at_build=False)
    source = classification.build_timm(network, 1)
    classification.load(source, of_network, path, None)
    copy_by_flat_names(source, module, path)


@torch.no_grad()
def copy_by_flat_names(source: nn.Module, target: nn.Module, path: Path) -> None:
    """Copy every tensor of `target` from `source`; timm writes `stages.0` as `stages_0` when it takes only the features.

    Raises:
        UnavailableError: when the source lacks one, or has it in another shape.
    """
    given = {name.replace(".", "_"): value for name, value in source.state_dict().items()}
    wanted = target.state_dict()
    found = {name: given.get(name.removeprefix("model.").replace(".", "_")) for name in wanted}
    lacking = [name for name, value in found.items() if value is None or value.shape != wanted[name].shape]
    if lacking:
        raise UnavailableError(
            f"{path} gives no weights for {len(lacking)} tensors of the backbone: {', '.join(lacking[:3])}.",
            "Check that the file belongs to it.",
        )
    target.load_state_dict(found)
