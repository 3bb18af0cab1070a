"""Detection transformers of the library `transformers`: RF-DETR, D-FINE and RT-DETRv2, in the language of `worker.networks.detection`.

The shapes are those of the authors' published checkpoints. The library is imported only here and only when one of these is built: it takes seconds,
and asks for CUDA, which a process that forks must not.
"""

import importlib
import math
from collections.abc import Iterator
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import box_convert

from core.errors import UnavailableError
from core.zoo.spec import ModelSpec
from worker.networks import loading
from worker.networks.detection import Targets
from worker.networks.measuring import Memory
from worker.networks.rows import NetworkRow, WeightRow

# ---------------------------------------------------------------- shapes

_RT_SMALL: dict[str, Any] = {"encoder_in_channels": [128, 256, 512], "hidden_expansion": 0.5}
RT_DETR: dict[str, dict[str, Any]] = {
    "rtdetr_v2_r18vd": _RT_SMALL
    | {"decoder_layers": 3, "backbone_config": {"hidden_sizes": [64, 128, 256, 512], "depths": [2, 2, 2, 2], "layer_type": "basic"}},
    "rtdetr_v2_r34vd": _RT_SMALL
    | {"decoder_layers": 4, "backbone_config": {"hidden_sizes": [64, 128, 256, 512], "depths": [3, 4, 6, 3], "layer_type": "basic"}},
    "rtdetr_v2_r50vd": {"backbone_config": {}},
    "rtdetr_v2_r101vd": {
        "encoder_ffn_dim": 2048,
        "encoder_hidden_dim": 384,
        "decoder_in_channels": [384, 384, 384],
        "backbone_config": {"depths": [3, 4, 23, 3]},
    },
}

_HGNET_SMALL: dict[str, Any] = {
    "hidden_sizes": [128, 256, 512, 1024],
    "stem_channels": [3, 16, 16],
    "stage_in_channels": [16, 64, 256, 512],
    "stage_mid_channels": [16, 32, 64, 128],
    "stage_out_channels": [64, 256, 512, 1024],
    "stage_num_blocks": [1, 1, 2, 1],
    "stage_numb_of_layers": [3, 3, 3, 3],
    "use_learnable_affine_block": True,
}
D_FINE: dict[str, dict[str, Any]] = {
    "dfine-nano": {
        "backbone_config": _HGNET_SMALL | {"out_indices": [3, 4]},
        "num_feature_levels": 2,
        "encoder_ffn_dim": 512,
        "encode_proj_layers": [1],
        "d_model": 128,
        "encoder_hidden_dim": 128,
        "decoder_ffn_dim": 512,
        "encoder_in_channels": [512, 1024],
        "decoder_n_points": [6, 6],
        "decoder_in_channels": [128, 128],
        "feat_strides": [16, 32],
        "depth_mult": 0.5,
        "decoder_layers": 3,
        "hidden_expansion": 0.34,
    },
    "dfine-small": {
        "backbone_config": _HGNET_SMALL,
        "decoder_layers": 3,
        "hidden_expansion": 0.5,
        "depth_mult": 0.34,
        "decoder_n_points": [3, 6, 3],
        "encoder_in_channels": [256, 512, 1024],
    },
    "dfine-medium": {
        "backbone_config": {
            "hidden_sizes": [192, 384, 768, 1536],
            "stem_channels": [3, 24, 32],
            "stage_in_channels": [32, 96, 384, 768],
            "stage_mid_channels": [32, 64, 128, 256],
            "stage_out_channels": [96, 384, 768, 1536],
            "stage_num_blocks": [1, 1, 3, 1],
            "stage_numb_of_layers": [4, 4, 4, 4],
            "use_learnable_affine_block": True,
        },
        "decoder_layers": 4,
        "decoder_n_points": [3, 6, 3],
        "encoder_in_channels": [384, 768, 1536],
        "depth_mult": 0.67,
    },
    "dfine-large": {"backbone_config": {}, "decoder_n_points": [3, 6, 3], "decoder_layers": 6},
    "dfine-xlarge": {
        "backbone_config": {
            "stem_channels": [3, 32, 64],
            "stage_in_channels": [64, 128, 512, 1024],
            "stage_mid_channels": [64, 128, 256, 512],
            "stage_num_blocks": [1, 2, 5, 2],
        },
        "encoder_hidden_dim": 384,
        "encoder_ffn_dim": 2048,
        "decoder_n_points": [3, 6, 3],
        "decoder_in_channels": [384, 384, 384],
        "decoder_layers": 6,
        "reg_scale": 8.0,
    },
}

_DINO: dict[str, Any] = {
    "model_type": "rf_detr_dinov2",
    "hidden_size": 384,
    "num_attention_heads": 6,
    "num_hidden_layers": 12,
    "num_windows": 2,
    "patch_size": 16,
    "out_features": ["stage3", "stage6", "stage9", "stage12"],
}


def _rf_detr(side: int, layers: int, **backbone: Any) -> dict[str, Any]:
    return {
        "decoder_layers": layers,
        "d_model": 256,
        "num_queries": 300,
        "decoder_self_attention_heads": 8,
        "decoder_cross_attention_heads": 16,
        "decoder_n_points": 2,
        "dropout": 0.0,  # as its authors train it; the library's default is 0.1
        "backbone_config": _DINO | {"image_size": side} | backbone,
    }


RF_DETR: dict[str, dict[str, Any]] = {
    "rf-detr-nano": _rf_detr(384, 2),
    "rf-detr-small": _rf_detr(512, 3),
    "rf-detr-medium": _rf_detr(576, 4),
    "rf-detr-base": _rf_detr(518, 3, patch_size=14, num_windows=4, out_features=["stage2", "stage5", "stage8", "stage11"]),
    "rf-detr-large": _rf_detr(704, 4),
}

SHAPES = RT_DETR | D_FINE | RF_DETR
FAMILIES = {"rt": "RT-DETRv2", "df": "D-FINE", "rf": "RF-DETR"}
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
BARE = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))  # pixels only scaled to 0–1

# Pre-training, repository of the converted checkpoint, and AP on COCO val2017 as the authors publish it. All of them are Apache-2.0.
WEIGHTS: dict[str, list[tuple[str, str, float | None]]] = {
    "rtdetr_v2_r18vd": [("coco", "PekingU/rtdetr_v2_r18vd", 0.479)],
    "rtdetr_v2_r34vd": [("coco", "PekingU/rtdetr_v2_r34vd", 0.499)],
    "rtdetr_v2_r50vd": [("coco", "PekingU/rtdetr_v2_r50vd", 0.534)],
    "rtdetr_v2_r101vd": [("coco", "PekingU/rtdetr_v2_r101vd", 0.543)],
    "dfine-nano": [("coco", "ustc-community/dfine-nano-coco", 0.428)],
    "dfine-small": [
        ("objects365-to-coco", "ustc-community/dfine-small-obj2coco", 0.507),
        ("coco", "ustc-community/dfine-small-coco", 0.485),
        ("objects365", "ustc-community/dfine-small-obj365", None),
    ],
    "dfine-medium": [
        ("objects365-to-coco", "ustc-community/dfine-medium-obj2coco", 0.551),
        ("coco", "ustc-community/dfine-medium-coco", 0.523),
        ("objects365", "ustc-community/dfine-medium-obj365", None),
    ],
    "dfine-large": [
        ("objects365-to-coco", "ustc-community/dfine-large-obj2coco-e25", 0.573),
        ("coco", "ustc-community/dfine-large-coco", 0.54),
        ("objects365", "ustc-community/dfine-large-obj365", None),
    ],
    "dfine-xlarge": [
        ("objects365-to-coco", "ustc-community/dfine-xlarge-obj2coco", 0.593),
        ("coco", "ustc-community/dfine-xlarge-coco", 0.558),
        ("objects365", "ustc-community/dfine-xlarge-obj365", None),
    ],
    "rf-detr-nano": [("objects365-to-coco", "Roboflow/rf-detr-nano", 0.484)],
    "rf-detr-small": [("objects365-to-coco", "Roboflow/rf-detr-small", 0.53)],
    "rf-detr-medium": [("objects365-to-coco", "Roboflow/rf-detr-medium", 0.547)],
    "rf-detr-base": [("objects365-to-coco", "Roboflow/rf-detr-base", 0.533)],
    "rf-detr-large": [("objects365-to-coco", "Roboflow/rf-detr-large", 0.565)],
}
TITLES = {"coco": "COCO", "objects365": "Objects365", "objects365-to-coco": "Objects365, then COCO"}
MOST_DETECTIONS = 100
QUERIES = 300


# What reckons boxes and scores. RT-DETRv2 and D-FINE add up places layer by layer in whatever type linear layers give, and bfloat16 knows a place near
# 500 px to 2 px only. RF-DETR adds in single precision, but its loss takes the logarithm of 1 − p, which in bfloat16 is 0 from a p of 0.998 on.
IN_SINGLE_PRECISION = ("enc_score_head", "enc_bbox_head", "decoder", "enc_out_class_embed", "class_embed")


# ---------------------------------------------------------------- building


def keep_single_precision(module: nn.Module) -> None:
    """Have a part of a network compute in single precision under autocast, too."""
    plain = module.forward

    def forward(*inputs: Any, **named: Any) -> Any:
        with torch.autocast(next(module.parameters()).device.type, enabled=False):
            return plain(*map(_single, inputs), **{name: _single(value) for name, value in named.items()})

    module.forward = forward


def _with_single_precision(work: Any, *inputs: Any, **named: Any) -> Any:
    return work(*inputs, **named | {"dtype": torch.float32})


def _single(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.dtype in (torch.bfloat16, torch.float16) else value


class DetectionTransformer(nn.Module):
    """A detection transformer behind the language of `worker.networks.detection`. Every query answers; nothing is suppressed."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        for name, part in (*inner.model.named_children(), *inner.named_children()):  # type: ignore[union-attr]
            if name in IN_SINGLE_PRECISION:
                for one in part if isinstance(part, nn.ModuleList) else (part,):
                    keep_single_precision(one)
        if hasattr(inner.model, "generate_anchors"):  # places that the boxes are added to, else in the type of the features
            inner.model.generate_anchors = partial(_with_single_precision, inner.model.generate_anchors)

    def forward(self, images: Tensor, targets: Targets | None = None) -> Any:
        """Losses by name in training (already weighted: they may be summed), detections by image in evaluation."""
        height, width = images.shape[-2:]
        sides = images.new_tensor([width, height, width, height])
        if self.training and targets is not None:
            labels = [
                {"class_labels": target["labels"], "boxes": box_convert(target["boxes"].float(), "xyxy", "cxcywh") / sides}
                for target in targets
            ]
            try:
                return {"loss": self.inner(pixel_values=images, labels=labels).loss}
            except ValueError as error:
                if not str(error).startswith("boxes1 must be"):
                    raise
                # The library's matching refuses boxes that are no numbers, what a training that diverges ends in: the loss is to say so.
                return {"loss": math.nan * next(self.parameters()).sum()}
        outputs = self.inner(pixel_values=images)
        scores, best = outputs.logits.float().sigmoid().flatten(1).topk(min(MOST_DETECTIONS, outputs.logits[0].numel()))
        classes = outputs.logits.shape[-1]
        boxes = torch.minimum((box_convert(outputs.pred_boxes.float(), "cxcywh", "xyxy") * sides).clamp(min=0), sides)
        return [
            {"boxes": boxes[number][index // classes], "labels": index % classes, "scores": score}
            for number, (score, index) in enumerate(zip(scores, best, strict=True))
        ]


def configuration(network: str, classes: int) -> Any:
    """The library's configuration of a network with so many classes."""
    transformers: Any = importlib.import_module("transformers")
    kind = FAMILIES[network[:2]]
    values = deepcopy(SHAPES[network])
    if kind == "RF-DETR":
        return transformers.RfDetrConfig(**values, num_labels=classes)
    config = transformers.RTDetrV2Config(num_labels=classes) if kind == "RT-DETRv2" else transformers.DFineConfig(num_labels=classes)
    backbone = type(config.backbone_config)(**(config.backbone_config.to_dict() | _without_derived(values.pop("backbone_config"))))
    values |= {
        "backbone_config": backbone,
        "num_labels": classes,
        # At first every place shows each class with a probability of 0.01 (Lin et al. 2017, 4.1), as with COCO's 80; the library's
        # 1 / (classes + 1) would have half of all queries say something where there is one class.
        "initializer_bias_prior_prob": 0.01,
        # Whether they are frozen is the plan's to say. The library would freeze them in networks from scratch, too: a mean of 0 and a variance of 1
        # for ever, which normalises nothing.
        "freeze_backbone_batch_norms": False,
    }
    return type(config)(**values)


def _without_derived(backbone: dict[str, Any]) -> dict[str, Any]:
    """Given `out_indices`, the names of the stages that the defaults hold must go: they would contradict them."""
    if "out_indices" in backbone:
        return backbone | {"out_features": [f"stage{index}" for index in backbone["out_indices"]]}
    return backbone


def model_class(network: str) -> Any:
    """The library's class of a network."""
    transformers = importlib.import_module("transformers")
    name = {"RT-DETRv2": "RTDetrV2ForObjectDetection", "D-FINE": "DFineForObjectDetection", "RF-DETR": "RfDetrForObjectDetection"}[
        FAMILIES[network[:2]]
    ]
    return getattr(transformers, name)


def build(spec: ModelSpec, classes: int, image_size: int | None = None) -> DetectionTransformer:
    """The detector of an entry for so many classes, with random weights."""
    if FAMILIES[spec.network[:2]] == "RF-DETR":
        # Its loss would ask all processes of a team how many objects they have. They do not take their losses at the same time, nor equally often:
        # they would wait for each other for ever. As with the other detectors, each divides by its own images' objects.
        loss: Any = importlib.import_module("transformers.loss.loss_lw_detr")
        loss._is_torch_distributed_initialized = lambda: False
    return DetectionTransformer(bare(spec.network, configuration(spec.network, classes)))


def bare(network: str, config: Any) -> nn.Module:
    """The library's own module of a network, with random weights."""
    detector: nn.Module = model_class(network)(config)
    for part in detector.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.reset_parameters()  # in RT-DETRv2 the library has them begin as factors around 0, through which nothing goes
    return detector


def keep_positions(network: nn.Module, side: int) -> None:
    """Have the embeddings of positions for images of `side` px be worked out once and for all: RF-DETR does so for each image, by a way of
    interpolating that ONNX does not know."""
    embeddings: Any
    for embeddings in network.modules():
        if hasattr(embeddings, "interpolate_pos_encoding"):
            places = embeddings.position_embeddings
            tokens = places.new_zeros(1, (side // embeddings.patch_size) ** 2 + 1, places.shape[-1])
            with torch.no_grad():
                kept = embeddings.interpolate_pos_encoding(tokens, side, side)
            embeddings.interpolate_pos_encoding = lambda *_, kept=kept: kept


def load(detector: nn.Module, spec: ModelSpec, path: Path, image_size: int | None = None) -> None:
    """Load a converted checkpoint, but for the layers that depend on the number of classes. The library renames older checkpoints' tensors.

    Raises:
        UnavailableError: when anything else is missing or of another shape.
    """
    inner: Any = detector.get_submodule("inner")
    weights = loading.read(path)
    # As many classes as the file has: the library stumbles over tied layers whose shapes differ (transformers 5.23).
    outputs = next((len(value) for name, value in weights.items() if _of_classes(name) and name.endswith("bias")), inner.config.num_labels)
    config = configuration(spec.network, outputs)
    # Published ones come from networks with frozen batch norms, which count no batches.
    config.freeze_backbone_batch_norms = not any("backbone" in name and name.endswith("num_batches_tracked") for name in weights)
    try:
        loaded, report = type(inner).from_pretrained(None, config=config, state_dict=weights, output_loading_info=True)
    except (RuntimeError, ValueError) as error:
        raise UnavailableError(
            f"{path} does not hold the weights of {spec.network}: {str(error).splitlines()[0][:200]}",
            "Check that the file belongs to this network.",
        ) from error
    own = inner.state_dict()
    kept = {name: value for name, value in loaded.state_dict().items() if name in own and not _of_classes(name)}
    lacking = [name for name in report["missing_keys"] if not _of_classes(name)]
    misshapen = [name for name, value in kept.items() if own[name].shape != value.shape]
    if lacking or misshapen:
        first = ", ".join([*lacking, *misshapen][:3])
        raise UnavailableError(
            f"{path} does not hold the weights of {spec.network}: {first} …", "Check that the file belongs to this network."
        )
    inner.load_state_dict(kept, strict=False)


def _of_classes(name: str) -> bool:
    return any(part in name for part in ("class_embed", "enc_score_head", "denoising_class_embed", "enc_out_class_embed"))


# ---------------------------------------------------------------- catalogue


def rows(memory: Memory) -> Iterator[tuple[NetworkRow, list[WeightRow]]]:
    """Every detection transformer with its weights."""
    for network in SHAPES:
        yield _row(network, memory)


def _row(network: str, memory: Memory) -> tuple[NetworkRow, list[WeightRow]]:
    rf = network.startswith("rf-")
    backbone = SHAPES[network]["backbone_config"]
    side = (560 if network == "rf-detr-base" else backbone["image_size"]) if rf else 640
    step = backbone["patch_size"] * backbone["num_windows"] if rf else 32
    # There must be at least as many places as queries (300).
    least = next(side for side in range(step, 1000, step) if _places(network, side) >= QUERIES)
    # These networks compute with numbers while they run, so the meta device will not do.
    measured = memory.measure(
        network, lambda _: model_class(network)(configuration(network, 7)), side, _forward, sizes=(least, step), device="cpu"
    )
    row = NetworkRow.of(
        network,
        measured,
        input_size=side,
        library="transformers",
        family=FAMILIES[network[:2]],
        task_types="detection",
        recipe="detection-transformer",
    )
    mean, std = IMAGENET if rf else BARE
    return row, [
        WeightRow(
            network=network,
            pretraining=pretraining,
            pretrained_on=TITLES[pretraining],
            licence="Apache-2.0",
            source=f"hub:{repository}",
            normalisation=WeightRow.normalisation_of(mean, std),
            interpolation="bilinear",
            accuracy=accuracy,
            accuracy_source="authors" if accuracy is not None else "",
        )
        for pretraining, repository, accuracy in WEIGHTS[network]
    ]


def _places(network: str, side: int) -> int:
    """How many places the decoder chooses its queries from."""
    if network.startswith("rf-"):
        return int((side // SHAPES[network]["backbone_config"]["patch_size"]) ** 2)
    return sum((side // stride) ** 2 for stride in SHAPES[network].get("feat_strides", (8, 16, 32)))


def _forward(network: nn.Module, images: Tensor) -> object:
    return network(pixel_values=images)
