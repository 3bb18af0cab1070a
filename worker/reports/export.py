"""A finished model for other programs: as ONNX or TorchScript, and as a zip with a script that runs it without this project.

The exported graph takes pictures as bytes and gives probabilities, or objects: only decoding and resizing are left to whoever uses it, and
the model card that goes along says how. Each export is run on random pictures and on some of the dataset's, where it is still there,
before it is handed out, and must agree with the original.
"""

import io
import json
import logging
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from core.errors import UnavailableError
from core.host_limits import usable_cores
from core.identifiers import new_id
from core.models.exporting import ExportFormat
from core.settings import Settings
from core.storage import Storage
from core.vocabulary import TaskType
from worker.engine.data import decode
from worker.objectives.regions import probabilities_of
from worker.reports import export_objects
from worker.reports.inference import LoadedModel, load_model

# Of probabilities. Other programs add up the same products in another order, which in float32 changes the sixth decimal or so.
TOLERANCE = 1e-4
# Where rounding alone puts the original further off: so many times as far, for the export rounds otherwise, and no better.
_ROUNDING, _MOST_OF_ROUNDING = 4, 0.01
_OPSET = 18  # what torch's exporter writes without converting, and every ONNX runtime since 2023 reads
_TRIED_BATCHES = (1, 3)  # an export that has learnt one batch size by heart fails on the other

Run = Callable[[NDArray[np.uint8]], Sequence[NDArray[Any]]]


class Exported(nn.Module):
    """A network from bytes to probabilities: uint8 [batch, side, side, 3] in RGB → float32 [batch, classes], for regions [batch, classes, side, side]."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: LoadedModel) -> None:
        super().__init__()
        preprocessing = model.card["preprocessing"]
        self.network = model.network
        self.softmax = model.task_type is TaskType.SINGLE_LABEL
        self.exclusive = model.exclusive
        self.register_buffer("mean", 255 * torch.tensor(preprocessing["mean"]).view(1, 3, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(preprocessing["std"]).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Probabilities of each class."""
        logits: Tensor = self.network((images.permute(0, 3, 1, 2).float() - self.mean) / self.std)
        return logits.softmax(1) if self.softmax else probabilities_of(logits, exclusive=self.exclusive)


@dataclass(frozen=True)
class _Checked:
    """An exported file, how far its numbers are from the original's at most, and of a detector on how many objects that was seen.

    `undecided` pictures were left out: on them rounding alone decides what the original answers.
    """

    data: bytes
    difference: float
    objects: int | None = None
    undecided: int = 0


def export_model(
    model_key: str, name: str, format_: ExportFormat, *, storage: Storage, settings: Settings, examples: Sequence[bytes] = ()
) -> dict[str, Any]:
    """Export a model.

    Args:
        model_key: the model's folder.
        name: the model's name, of which the file's name is made.
        format_: for which program.
        storage: where the model lies and the export is put.
        settings: of the installation.
        examples: image files to compare on, besides random pictures: in noise a detector may find nothing.

    Returns:
        `key` of the file in the storage, to be deleted by whoever asked; its `name`, `bytes`, and `largest_difference` of a probability (or of
        a place, as share of the side) from the original's; of detectors `objects_compared` and the number of `pictures_left_out`.

    Raises:
        UnavailableError: when the network cannot be exported that way.
        NotFoundError, BadDataError: when the model's files are gone or damaged.
    """
    torch.set_num_threads(usable_cores())
    model = load_model(model_key, storage=storage, settings=settings)
    pictures = _pictures(model, examples)
    checked = _torchscript(model, pictures) if format_ is ExportFormat.TORCHSCRIPT else _onnx(model, pictures)
    data = _packed(model, checked.data) if format_ is ExportFormat.ZIP else checked.data
    file = f"{_file_name(name)}{format_.suffix}"
    key = f"exports/{new_id()}/{file}"
    storage.write(key, data)
    told = {"key": key, "name": file, "format": format_.value, "bytes": len(data), "largest_difference": checked.difference}
    return told if checked.objects is None else told | {"objects_compared": checked.objects, "pictures_left_out": checked.undecided}


def card_for_others(model: LoadedModel) -> dict[str, Any]:
    """What another program must know of an export: the model card without the curves, and what goes in and comes out."""
    side = int(model.card["preprocessing"]["size"][0])
    card = {name: value for name, value in model.card.items() if name != "history"}
    finds = finds_objects(model)
    card["export"] = {
        "input": {
            "name": "images",
            "type": "uint8",
            "shape": [1 if finds else "batch", side, side, 3],
            "meaning": "RGB, stretched to the side; not normalised",
        },
        "normalisation": "inside the graph",
    }
    if finds:
        return card | {"export": card["export"] | {"outputs": export_objects.describe_outputs(model, side)}}
    several = model.task_type is not TaskType.SINGLE_LABEL
    card["export"]["output"] = {
        "name": "probabilities",
        "type": "float32",
        "shape": ["batch", len(model.classes)] + ([side, side] if model.task_type is TaskType.OBJECT_SEGMENTATION else []),
        "meaning": "one probability for each class, in the order of `classes`"
        + ("" if model.exclusive else "; they are independent" if several else ", adding up to 1")
        + ("; what they lack to 1 is the background's, and the likeliest is at each place" if model.exclusive else ""),
    }
    return card


def finds_objects(model: LoadedModel) -> bool:
    """Whether a model gives single objects, not one answer for each class."""
    return model.task_type is TaskType.OBJECT_DETECTION or model.gives_instances


def _onnx(model: LoadedModel, pictures: Sequence[NDArray[np.uint8]]) -> _Checked:
    network, example = _ready(model)
    for part in network.modules():
        # timm's switch: step by step attention is the same, and the exporter knows it in five dimensions, too (Hiera, NesT).
        if hasattr(part, "fused_attn"):
            part.fused_attn = False  # type: ignore[assignment]
    with tempfile.TemporaryDirectory(prefix="stationmaster-") as folder, _quietly():
        file = Path(folder) / "model.onnx"
        try:
            if finds_objects(model):
                export_objects.write_onnx(network, example, _outputs(model), file)
            else:
                program = torch.onnx.export(
                    network,
                    (example,),
                    input_names=["images"],
                    output_names=_outputs(model),
                    dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
                    opset_version=_OPSET,
                    dynamo=True,
                    verbose=False,
                )
                if program is None:
                    raise _not_exportable(model, "ONNX", "torchscript")
                program.save(file, external_data=False)
        except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
            raise _not_exportable(model, "ONNX", "torchscript") from error
        graph = onnx.load(file)
        onnx.helper.set_model_props(graph, {"model_card": json.dumps(card_for_others(model), ensure_ascii=False)})
        data = graph.SerializeToString()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # loops over objects are warned of at each object
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])

    def run(images: NDArray[np.uint8]) -> Sequence[NDArray[Any]]:
        found: Sequence[NDArray[Any]] = session.run(_outputs(model), {"images": images})
        return found

    return _compared(network, run, model, "ONNX", data, pictures)


def _torchscript(model: LoadedModel, pictures: Sequence[NDArray[np.uint8]]) -> _Checked:
    network, example = _ready(model)
    buffer = io.BytesIO()
    with _quietly():
        try:
            traced = torch.jit.trace(network, example, check_trace=False)  # type: ignore[no-untyped-call]  # compared below, on other pictures
        except RuntimeError as error:
            raise _not_exportable(model, "TorchScript", "onnx") from error
        torch.jit.save(traced, buffer, _extra_files={"model_card.json": json.dumps(card_for_others(model), ensure_ascii=False)})
        data = buffer.getvalue()
        loaded = torch.jit.load(io.BytesIO(data))  # type: ignore[no-untyped-call]

        @torch.inference_mode()
        def run(images: NDArray[np.uint8]) -> Sequence[NDArray[Any]]:
            return export_objects.arrays(loaded(torch.from_numpy(images)))

        return _compared(network, run, model, "TorchScript", data, pictures)


def _ready(model: LoadedModel) -> tuple[nn.Module, Tensor]:
    """The module to export and an example for its input: of several images, so that the batch is seen to vary, where it may."""
    side = int(model.card["preprocessing"]["size"][0])
    finds = finds_objects(model)
    network = export_objects.ExportedDetector(model) if finds else Exported(model)
    example = torch.randint(0, 256, (1 if finds else 2, side, side, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return network.eval().requires_grad_(False), example


def _outputs(model: LoadedModel) -> list[str]:
    return export_objects.output_names(model) if finds_objects(model) else ["probabilities"]


def _pictures(model: LoadedModel, examples: Sequence[bytes]) -> list[NDArray[np.uint8]]:
    """What an export is compared on: random pictures, and the `examples`."""
    random = np.random.default_rng(0)
    side = int(model.card["preprocessing"]["size"][0])
    batches = (1, 1) if finds_objects(model) else _TRIED_BATCHES
    pictures = [random.integers(0, 256, (count, side, side, 3), np.uint8) for count in batches]
    return pictures + [decode(example, side)[None] for example in examples]


@torch.inference_mode()
def _compared(
    network: nn.Module, run: Run, model: LoadedModel, format_: str, data: bytes, pictures: Sequence[NDArray[np.uint8]]
) -> _Checked:
    """The export with its largest difference from the original on `pictures`.

    Raises:
        UnavailableError: when it is more than `TOLERANCE` and than rounding explains, or rounding decides the original's answers on all of them.
    """
    finds, side = finds_objects(model), int(model.card["preprocessing"]["size"][0])
    largest, objects, undecided, agrees = 0.0, 0, 0, True
    for images in pictures:
        expected, found = export_objects.arrays(network(torch.from_numpy(images.copy()))), run(images)
        if finds:
            difference = export_objects.largest_difference(expected, found, side, TOLERANCE)
            if difference > TOLERANCE and export_objects.decided_by_rounding(
                network, torch.from_numpy(images.copy()), expected, side, TOLERANCE
            ):
                undecided += 1
                continue
            objects += len(expected[0])
            allowed = TOLERANCE
        else:
            same = found[0].shape == expected[0].shape and all(np.isfinite(answer).all() for answer in (found[0], expected[0]))
            difference = float(np.abs(found[0] - expected[0]).max()) if same else float("inf")
            allowed = (
                TOLERANCE if difference <= TOLERANCE else min(_ROUNDING * _rounding_error(network, images, expected), _MOST_OF_ROUNDING)
            )
        agrees &= difference <= max(allowed, TOLERANCE)
        largest = max(largest, difference)
    if undecided == len(pictures):
        raise UnavailableError(
            f"Whether the {format_} export gives the original's numbers cannot be told: on all pictures rounding alone decides what this model answers.",
            "Train it longer: a model that has learnt something is surer.",
        )
    if not agrees:
        raise UnavailableError(
            f"The {format_} export of this network gives other numbers than the original (up to {largest:.2g}): it is not handed out.",
            "Try the other format.",
        )
    return _Checked(data, largest, objects if finds else None, undecided)


def _rounding_error(network: nn.Module, images: NDArray[np.uint8], expected: Sequence[NDArray[Any]]) -> float:
    """How far `expected`, what the original gives in single precision, is from what it gives in double; 0 where it cannot compute in that."""
    exact = export_objects.in_double_precision(network, torch.from_numpy(images.copy()))
    return 0.0 if exact is None else float(np.abs(exact[0] - expected[0]).max())


def _packed(model: LoadedModel, onnx: bytes) -> bytes:
    """A zip of the ONNX file, its card, a script that runs it with NumPy, Pillow and ONNX Runtime alone, and how to use it."""
    script = (resources.files("worker.reports") / "elsewhere.py").read_text(encoding="utf-8")
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("model.onnx", onnx)
        archive.writestr("model_card.json", json.dumps(card_for_others(model), indent=2, ensure_ascii=False))
        archive.writestr("predict.py", script)
        archive.writestr("requirements.txt", "numpy\nonnxruntime\npillow\n")
        archive.writestr("README.md", _read_me(model))
    return out.getvalue()


def _read_me(model: LoadedModel) -> str:
    more = []
    if model.task_type is TaskType.OBJECT_SEGMENTATION:
        each = "object" if model.gives_instances else "class"
        more.append(f"With `--masks FOLDER` a black and white PNG is written for each {each} it finds, as large as the picture.")
    if model.finds_objects or model.task_type is TaskType.MULTI_LABEL:
        more.append("What counts is told by a threshold for each class, in the card; `--threshold 0.3` takes another one for all.")
    return _READ_ME.format(name=model.card["name"], classes=", ".join(model.classes), more="".join(f"\n{line}\n" for line in more))


_READ_ME = """# {name}

Classes: {classes}

```
pip install -r requirements.txt
python predict.py picture.jpg another.png
```

prints one JSON document for each picture. `model_card.json` says what the model was trained on, how well it did, and what goes in and
comes out of `model.onnx`.
{more}"""


def _file_name(name: str) -> str:
    plain = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in name).strip("-.")
    return plain[:80] or "model"


def _not_exportable(model: LoadedModel, format_: str, other: str) -> UnavailableError:
    return UnavailableError(
        f"{model.card['network']} cannot be exported as {format_}: it computes in a way that the exporter does not know.",
        f"Try --format {other}; the weights are in model.safetensors.",
    )


@contextmanager
def _quietly() -> Iterator[None]:
    """No warnings of the exporters: that TorchScript is old, that a shape was taken as it is. What matters is compared afterwards."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
