"""Exporting a model: the formats there are. The work is the light worker's (`worker.reports.export`)."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any


class ExportFormat(StrEnum):
    """For which program a model is exported."""

    ONNX = "onnx"
    TORCHSCRIPT = "torchscript"
    ZIP = "zip"

    @property
    def suffix(self) -> str:
        """The ending of its files."""
        return {ExportFormat.ONNX: ".onnx", ExportFormat.TORCHSCRIPT: ".pt", ExportFormat.ZIP: ".zip"}[self]

    @property
    def explanation(self) -> str:
        """What it is, in words."""
        return {
            ExportFormat.ONNX: "ONNX, for ONNX Runtime and most other engines",
            ExportFormat.TORCHSCRIPT: "TorchScript, for PyTorch in Python and C++; models that find objects need torchvision, too",
            ExportFormat.ZIP: "ONNX with a script that runs it without Stationmaster",
        }[self]


def how_it_agrees(result: Mapping[str, Any]) -> str:
    """What comparing an export with the original came to, in words; `result` is that of `worker.reports.export.export_model`."""
    words = f"Its numbers differ from the original's by at most {result['largest_difference']:.1g}."
    if left_out := result.get("pictures_left_out", 0):
        pictures = "1 picture was" if left_out == 1 else f"{left_out} pictures were"
        words += f" {pictures} left out of the comparison: the original's own answers on them change with the last digit."
    return words
