"""DICOM files as a test wants them."""

from io import BytesIO
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid


def dicom(values: np.ndarray, **tags: Any) -> bytes:
    """A DICOM file of one or several frames."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    frames = values.ndim == 3
    dataset.Rows, dataset.Columns = values.shape[-2:]
    if frames:
        dataset.NumberOfFrames = values.shape[0]
    bits = values.dtype.itemsize * 8
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = bits
    dataset.HighBit, dataset.PixelRepresentation = bits - 1, int(values.dtype.kind == "i")
    dataset.PixelData = values.tobytes()
    for name, value in tags.items():
        setattr(dataset, name, value)
    out = BytesIO()
    pydicom.dcmwrite(out, dataset, enforce_file_format=True)
    return out.getvalue()


def without_mark(data: bytes) -> bytes:
    """A DICOM file as it was written before 1993: without preamble, mark and meta information."""
    whole = pydicom.dcmread(BytesIO(data))
    plain = FileDataset("", {}, file_meta=FileMetaDataset())
    plain.update({element.tag: element for element in whole if element.tag.group != 2})
    out = BytesIO()
    pydicom.dcmwrite(out, plain, implicit_vr=True, little_endian=True, enforce_file_format=False)
    return out.getvalue()
