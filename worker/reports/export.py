"""A finished model for other programs: as ONNX or TorchScript, and as a zip with a script that runs it without this project.

The exported graph takes pictures as bytes and gives probabilities: only decoding and resizing are left to whoever uses it, and the model
card that goes along says how. Each export is run on random pictures before it is handed out, and must agree with the original.
"""

import io
import json
import logging
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from core.errors import UnavailableError
from core.identifiers import new_id
from core.models.exporting import ExportFormat
from core.settings import Settings
from core.storage import Storage
from core.vocabulary import TaskType
from worker.engine.device import usable_cores
from worker.reports.inference import LoadedModel, load_model

# Of probabilities. Other programs add up the same products in another order, which in float32 changes the sixth decimal or so.
TOLERANCE = 1e-4
_OPSET = 18  # what torch's exporter writes without converting, and every ONNX runtime since 2023 reads
_TRIED_BATCHES = (1, 3)  # an export that has learnt one batch size by heart fails on the other

Run = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


class Exported(nn.Module):
    """A network from bytes to probabilities: uint8 [batch, side, side, 3] in RGB → float32 [batch, classes], for regions [batch, classes, side, side]."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: LoadedModel) -> None:
        super().__init__()
        preprocessing = model.card["preprocessing"]
        self.network = model.network
        self.softmax = model.task_type is TaskType.SINGLE_LABEL
        self.register_buffer("mean", 255 * torch.tensor(preprocessing["mean"]).view(1, 3, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(preprocessing["std"]).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Probabilities of each class."""
        logits: Tensor = self.network((images.permute(0, 3, 1, 2).float() - self.mean) / self.std)
        return logits.softmax(1) if self.softmax else logits.sigmoid()


@dataclass(frozen=True)
class _Checked:
    """An exported file, and how far its probabilities are from the original's at most."""

    data: bytes
    difference: float


def export_model(model_key: str, name: str, format_: ExportFormat, *, storage: Storage, settings: Settings) -> dict[str, Any]:
    """Export a model.

    Args:
        model_key: the model's folder.
        name: the model's name, of which the file's name is made.
        format_: for which program.
        storage: where the model lies and the export is put.
        settings: of the installation.

    Returns:
        `key` of the file in the storage, to be deleted by whoever asked; its `name`, `bytes`, and `largest_difference` of a probability from
        the original's, measured on random pictures.

    Raises:
        UnavailableError: when the network cannot be exported that way.
        NotFoundError, BadDataError: when the model's files are gone or damaged.
    """
    torch.set_num_threads(usable_cores())
    model = load_model(model_key, storage=storage, settings=settings)
    if model.task_type is TaskType.OBJECT_DETECTION or model.gives_instances:
        raise UnavailableError(
            "Models that find single objects cannot be exported yet.", "Use them here, or load model.safetensors by hand."
        )
    checked = _torchscript(model) if format_ is ExportFormat.TORCHSCRIPT else _onnx(model)
    data = _packed(model, checked.data) if format_ is ExportFormat.ZIP else checked.data
    file = f"{_file_name(name)}{format_.suffix}"
    key = f"exports/{new_id()}/{file}"
    storage.write(key, data)
    return {"key": key, "name": file, "format": format_.value, "bytes": len(data), "largest_difference": checked.difference}


def card_for_others(model: LoadedModel) -> dict[str, Any]:
    """What another program must know of an export: the model card without the curves, and what goes in and comes out."""
    side = int(model.card["preprocessing"]["size"][0])
    card = {name: value for name, value in model.card.items() if name != "history"}
    several = model.task_type is not TaskType.SINGLE_LABEL
    shape = ["batch", len(model.classes)] + ([side, side] if model.task_type is TaskType.OBJECT_SEGMENTATION else [])
    card["export"] = {
        "input": {
            "name": "images",
            "type": "uint8",
            "shape": ["batch", side, side, 3],
            "meaning": "RGB, stretched to the side; not normalised",
        },
        "output": {
            "name": "probabilities",
            "type": "float32",
            "shape": shape,
            "meaning": "one probability for each class, in the order of `classes`"
            + ("; they are independent" if several else ", adding up to 1"),
        },
        "normalisation": "inside the graph",
    }
    return card


def _onnx(model: LoadedModel) -> _Checked:
    network, example = _ready(model)
    with tempfile.TemporaryDirectory(prefix="stationmaster-") as folder, _quietly():
        file = Path(folder) / "model.onnx"
        try:
            program = torch.onnx.export(
                network,
                (example,),
                input_names=["images"],
                output_names=["probabilities"],
                dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
                opset_version=_OPSET,
                dynamo=True,
                verbose=False,
            )
        except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
            raise _not_exportable(model, "ONNX", "torchscript") from error
        if program is None:
            raise _not_exportable(model, "ONNX", "torchscript")
        program.model.metadata_props["model_card"] = json.dumps(card_for_others(model), ensure_ascii=False)
        program.save(file, external_data=False)
        data = file.read_bytes()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])

    def run(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.asarray(session.run(["probabilities"], {"images": images})[0])

    return _Checked(data, _compared(network, run, model, "ONNX"))


def _torchscript(model: LoadedModel) -> _Checked:
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
        def run(images: NDArray[np.uint8]) -> NDArray[np.float32]:
            return np.asarray(loaded(torch.from_numpy(images)))

        return _Checked(data, _compared(network, run, model, "TorchScript"))


def _ready(model: LoadedModel) -> tuple[Exported, Tensor]:
    """The module to export and an example for its input; several images, so that the batch is seen to vary."""
    side = int(model.card["preprocessing"]["size"][0])
    return Exported(model).eval().requires_grad_(False), torch.zeros(2, side, side, 3, dtype=torch.uint8)


@torch.inference_mode()
def _compared(network: Exported, run: Run, model: LoadedModel, format_: str) -> float:
    """The largest difference of a probability between the export and the original, on random pictures.

    Raises:
        UnavailableError: when it is more than `TOLERANCE`.
    """
    random = np.random.default_rng(0)
    side = int(model.card["preprocessing"]["size"][0])
    largest = 0.0
    for count in _TRIED_BATCHES:
        images = random.integers(0, 256, (count, side, side, 3), np.uint8)
        expected = network(torch.from_numpy(images)).numpy()
        found = run(images)
        same = found.shape == expected.shape and bool(np.isfinite(found).all())
        largest = max(largest, float(np.abs(found - expected).max()) if same else float("inf"))
    if largest > TOLERANCE:
        raise UnavailableError(
            f"The {format_} export of this network gives other numbers than the original (up to {largest:.2g}): it is not handed out.",
            "Try the other format.",
        )
    return largest


def _packed(model: LoadedModel, onnx: bytes) -> bytes:
    """A zip of the ONNX file, its card, a script that runs it with NumPy, Pillow and ONNX Runtime alone, and how to use it."""
    script = (resources.files("worker.reports") / "elsewhere.py").read_text(encoding="utf-8")
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("model.onnx", onnx)
        archive.writestr("model_card.json", json.dumps(card_for_others(model), indent=2, ensure_ascii=False))
        archive.writestr("predict.py", script)
        archive.writestr("requirements.txt", "numpy\nonnxruntime\npillow\n")
        archive.writestr("README.md", _READ_ME.format(name=model.card["name"], classes=", ".join(model.classes)))
    return out.getvalue()


_READ_ME = """# {name}

Classes: {classes}

```
pip install -r requirements.txt
python predict.py picture.jpg another.png
```

prints one JSON document for each picture. `model_card.json` says what the model was trained on, how well it did, and what goes in and
comes out of `model.onnx`.
"""


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
