"""One image file of whatever format, as pictures that can be stored, learnt from and predicted: the same for an import and for a test of a model."""

from core.datasets.images import ImageError, StoredImage, is_dicom, read_image

DICOM_SUFFIXES = (".dcm", ".dicom")


def read_pictures(data: bytes, name: str, max_pixels: int) -> list[StoredImage]:
    """The pictures that an image file holds: the frames of a DICOM file, known by its content or its name, else one.

    Raises:
        ImageError: when it is empty, damaged, of an unknown format, too small, or too large.
    """
    if not data:
        raise ImageError("damaged-image", "The file is empty.", "Save it again, or take it out.")
    if is_dicom(data) or name.lower().endswith(DICOM_SUFFIXES):
        from core.datasets.dicom import read_dicom  # pydicom takes long to import, and most files are no DICOM

        return read_dicom(data, max_pixels)
    return [read_image(data, max_pixels)]


def may_be_dicom(name: str) -> bool:
    """Whether scanners name DICOM files so, which then is to be looked into: without a suffix, or with a number for one."""
    name = name.rpartition("/")[2]
    suffix = name.rpartition(".")[2] if "." in name else ""
    return (not suffix or suffix.isdecimal()) and name.upper() != "DICOMDIR"
