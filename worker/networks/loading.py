"""Weights from a file into a network: every tensor's name and shape checked, so that nothing stays random without being said."""

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.models import clean_state_dict
from torch import Tensor, nn

from core.errors import UnavailableError

# torchvision's pyramids, detectors and ViTs are built of other modules than when their weights were published; `_load_from_state_dict` renames there.
_RENAMED: list[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]] = [
    (re.compile(r"((?:inner|layer)_blocks\.\d+)\.(weight|bias)$"), r"\1.0.\2"),
    (re.compile(r"(rpn\.head\.conv)\.(weight|bias)$"), r"\1.0.0.\2"),
    (re.compile(r"mask_fcn(\d+)\.(weight|bias)$"), lambda found: f"{int(found[1]) - 1}.0.{found[2]}"),
    (
        re.compile(r"((?:classification|regression)_head\.conv)\.(\d+)\.(weight|bias)$"),
        lambda found: f"{found[1]}.{int(found[2]) // 2}.0.{found[3]}",
    ),
    (re.compile(r"mlp\.linear_1\."), "mlp.0."),
    (re.compile(r"mlp\.linear_2\."), "mlp.3."),
]

Weights = dict[str, Tensor]


def read(path: Path) -> Weights:
    """The tensors of a safetensors or PyTorch file, on the CPU. Nothing in the file is ever run (`weights_only`).

    Raises:
        UnavailableError: when it is no such file.
    """
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, RuntimeError, ValueError, EOFError, KeyError, TypeError, AttributeError) as error:
        raise _unreadable(path, str(error)) from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] in ("pickle", "_pickle"):  # what weights_only refuses
            raise _unreadable(path, "it holds more than tensors") from error
        raise
    for key in ("state_dict_ema", "model_ema", "state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if not isinstance(content, dict) or not any(isinstance(value, Tensor) for value in content.values()):
        raise _unreadable(path, "it holds no tensors by name")
    return {name: value for name, value in clean_state_dict(content).items() if isinstance(value, Tensor)}


def _unreadable(path: Path, reason: str) -> UnavailableError:
    return UnavailableError(
        f"{path} cannot be read as weights: {reason.splitlines()[0][:200] if reason else 'it is empty or cut short'}.", "Fetch it again."
    )


def by_order(weights: Mapping[str, Tensor], network: nn.Module, path: Path) -> Weights:
    """The same tensors under the network's names, for a file that names them differently but lists them in the same order.

    Raises:
        UnavailableError: when the number of tensors or any shape differs.
    """
    wanted = network.state_dict()
    if [tuple(value.shape) for value in weights.values()] != [tuple(value.shape) for value in wanted.values()]:
        raise UnavailableError(
            f"{path} does not hold the weights of this network: numbers or shapes of its tensors differ.", "Install the package again."
        )
    return dict(zip(wanted, weights.values(), strict=True))


def put(weights: Mapping[str, Tensor], network: nn.Module, heads: tuple[str, ...], path: Path) -> None:
    """Load everything but the outputs, whose layers (names starting with one of `heads`) may be missing or of another shape.

    Raises:
        UnavailableError: when any other tensor of the network is missing or of another shape; the first few are named.
    """
    own = network.state_dict()
    weights = {_name_now(name, own): value for name, value in weights.items()}
    weights = {name: _in_colour(value, own[name]) if name in own else value for name, value in weights.items()}
    fitting = {name: value for name, value in weights.items() if name in own and own[name].shape == value.shape}
    lacking = [name for name in own if name not in fitting and not name.startswith(heads) and not name.endswith("num_batches_tracked")]
    if lacking:
        first = ", ".join(lacking[:3]) + ("…" if len(lacking) > 3 else "")
        raise UnavailableError(
            f"{path} lacks {len(lacking)} of the {len(own)} tensors of this network, or has them in another shape: {first}.",
            "Check that the file belongs to this network.",
        )
    restore(network, fitting, strict=False)


def restore(network: nn.Module, weights: Mapping[str, Tensor], *, strict: bool = True) -> None:
    """Load weights by their names, out of a file or wherever else their versions were not kept: `load_state_dict` for plain mappings.

    Some modules (MNASNet) refuse tensors of which they do not hear in what version of themselves they were saved: it was in this one.

    Raises:
        RuntimeError: when they do not fit; where `strict`, when any is missing or too many.
    """
    versioned = OrderedDict(weights)
    versioned._metadata = network.state_dict()._metadata  # type: ignore[attr-defined]  # as `state_dict` itself keeps it
    network.load_state_dict(versioned, strict=strict)


def _name_now(name: str, own: Mapping[str, Tensor]) -> str:
    """What a tensor of an older file is called today, if that is a tensor of the network's `own`."""
    if name not in own:
        for pattern, now in _RENAMED:
            if (new := pattern.sub(now, name)) in own:
                return new
    return name


def _in_colour(given: Tensor, wanted: Tensor) -> Tensor:
    """A first convolution that has learnt from grey images, spread over three channels: of a grey image in colour its answers are the same."""
    if given.ndim == wanted.ndim == 4 and given.shape[1] == 1 and wanted.shape[1] == 3 and given.shape[0] == wanted.shape[0]:
        return given.expand(-1, 3, -1, -1) / 3
    return given


def hash_in(url: str) -> str:
    """torch.hub's habit: the first hex digits of the file's sha256 stand before its extension."""
    found = re.search(r"-([0-9a-f]{8,64})\.pth$", url)
    return found.group(1) if found else ""
