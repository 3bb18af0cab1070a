"""DICOM files: each frame becomes a picture as a radiologist's viewer would first show it; pydicom does the reading."""

import logging
import warnings
from io import BytesIO
from typing import Any

import numpy as np
import pydicom
from PIL import Image
from pydicom.errors import InvalidDicomError
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi_lut
from pydicom.pixels.utils import iter_pixels
from pydicom.uid import ImplicitVRLittleEndian

from core.datasets.images import ImageError, StoredImage, check_size, is_dicom, store_picture, stretch

_MOST_FRAMES = 10_000
_UNCOMPRESSED = "Save it uncompressed, or have `stationmaster[dicom]` installed, which reads more."

# pydicom tells of every odd tag; what matters of them becomes a finding.
logging.getLogger("pydicom").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", category=UserWarning, module=r"pydicom\.")


def read_dicom(data: bytes, max_pixels: int) -> list[StoredImage]:
    """The frames of a DICOM file, with the ids of its study and series. Files of before 1993, without the mark at their beginning, too.

    Raises:
        ImageError: when it holds no pixels, is damaged, or compressed in a way that cannot be read here.
    """
    syntax: Any = None
    try:
        dataset = pydicom.dcmread(BytesIO(data), force=True)
        if not is_dicom(data):
            if "Rows" not in dataset:
                raise ImageError("damaged-image", "The file is no DICOM file.", "Export it again, or take it out.")
            if "TransferSyntaxUID" not in dataset.file_meta:
                dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        syntax = dataset.file_meta.get("TransferSyntaxUID")
        frames = int(dataset.get("NumberOfFrames") or 1)
        rows, columns = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)
        if "PixelData" not in dataset or not rows or not columns:
            raise ImageError("no-pixels", "The DICOM file holds no pixels.", "Take it out; reports and directories are no images.")
        check_size(columns, rows, max_pixels)
        if frames > _MOST_FRAMES or rows * columns * frames > 4 * max_pixels:
            raise ImageError("too-many-pixels", f"The DICOM file holds {frames:,} frames of {columns} × {rows} px.", "Split it.")
        study = str(dataset.get("StudyInstanceUID") or "")
        series = str(dataset.get("SeriesInstanceUID") or "")
        stored = []
        for number, pixels in enumerate(iter_pixels(dataset)):
            picture = _picture(pixels, _attributes(dataset, number))
            stored.append(store_picture(picture, study=study, series=series, frame=number if frames > 1 else -1))
        return stored
    except ImageError:
        raise
    except NotImplementedError as error:
        raise ImageError(
            "unknown-compression",
            f"The DICOM file is compressed as “{getattr(syntax, 'name', 'unknown')}”, which cannot be read here.",
            _UNCOMPRESSED,
        ) from error
    except (InvalidDicomError, Exception) as error:  # parsers of untrusted bytes: pydicom raises of many kinds
        if "plugin" in str(error).lower() or "missing dependencies" in str(error).lower():
            raise ImageError(
                "unknown-compression", "The DICOM file is compressed in a way that cannot be read here.", _UNCOMPRESSED
            ) from error
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise ImageError("damaged-image", f"The DICOM file cannot be decoded ({reason}).", "Export it again, or take it out.") from error


_SHOWING = (
    *("PhotometricInterpretation", "BitsStored", "BitsAllocated", "PixelRepresentation", "PixelPaddingValue"),
    *("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence"),
    *("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence"),
    *("RedPaletteColorLookupTableDescriptor", "GreenPaletteColorLookupTableDescriptor", "BluePaletteColorLookupTableDescriptor"),
    *("RedPaletteColorLookupTableData", "GreenPaletteColorLookupTableData", "BluePaletteColorLookupTableData"),
)
# Where enhanced multi-frame objects say the same for all frames or for each (DICOM PS3.3 C.7.6.16).
_GROUPS = ("PixelValueTransformationSequence", "FrameVOILUTSequence")


def _attributes(dataset: Any, frame: int) -> pydicom.Dataset:
    """What decides how the frame of that number, from 0, is shown."""
    found = pydicom.Dataset()
    for keyword in _SHOWING:
        if keyword in dataset:
            found[keyword] = dataset[keyword]
    places = [
        (dataset.get("SharedFunctionalGroupsSequence") or [])[:1],
        (dataset.get("PerFrameFunctionalGroupsSequence") or [])[frame : frame + 1],
    ]
    for group in (item for items in places for item in items):
        for sequence in _GROUPS:
            for item in (group.get(sequence) or [])[:1]:
                for keyword in _SHOWING:
                    if keyword in item:
                        found[keyword] = item[keyword]
    if "WindowCenter" in found and "WindowWidth" not in found:
        del found["WindowCenter"]  # half a window is none
    return found


def _picture(pixels: np.ndarray, dataset: Any) -> Image.Image:
    interpretation = str(dataset.get("PhotometricInterpretation") or "MONOCHROME2")
    if interpretation == "PALETTE COLOR":
        colours = apply_color_lut(pixels, dataset)
        return Image.fromarray((colours >> 8).astype(np.uint8) if colours.dtype.itemsize > 1 else colours)
    if pixels.ndim == 3:
        return Image.fromarray(stretch(pixels) if pixels.dtype != np.uint8 else pixels)
    padding = dataset.get("PixelPaddingValue")
    outside = pixels == padding if padding is not None else None
    values = np.asarray(apply_modality_lut(pixels, dataset))
    if "WindowCenter" in dataset or "VOILUTSequence" in dataset:
        shown = np.asarray(apply_voi_lut(values, dataset, index=0), np.float64)
        low, high = _range_after_window(dataset, shown)
    else:
        shown = values.astype(np.float64)
        inside = shown if outside is None or outside.all() else shown[~outside]
        low, high = float(inside.min()), float(inside.max())
    grey = np.clip((shown - low) / max(high - low, 1e-9), 0, 1)
    if interpretation == "MONOCHROME1":
        grey = 1 - grey
    if outside is not None:
        grey[outside] = 0
    return Image.fromarray((grey * 255 + 0.5).astype(np.uint8))


def _range_after_window(dataset: Any, shown: np.ndarray) -> tuple[float, float]:
    """The range that windowing maps to, which is not that of the values found: an image may not reach the window's ends.

    A lookup table gives numbers of the bits it states; a window those of the stored bits after rescaling (DICOM PS3.3 C.11.2).
    """
    if "VOILUTSequence" in dataset:
        bits = int(dataset.VOILUTSequence[0].LUTDescriptor[2])
        return 0.0, float(2**bits - 1)
    bits = int(dataset.get("BitsStored") or 8)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if int(dataset.get("PixelRepresentation") or 0) else (0, 2**bits - 1)
    slope, intercept = float(dataset.get("RescaleSlope") or 1), float(dataset.get("RescaleIntercept") or 0)
    ends = sorted((low * slope + intercept, high * slope + intercept))
    return ends[0], ends[1]
