"""Exporting a model: the formats there are. The work is the light worker's (`worker.reports.export`)."""

from enum import StrEnum


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
            ExportFormat.TORCHSCRIPT: "TorchScript, for PyTorch in Python and C++",
            ExportFormat.ZIP: "ONNX with a script that runs it without Stationmaster",
        }[self]
