"""Images without labels: to look at, and to test models on."""

from core.datasets.findings import Findings
from core.datasets.names import natural_key
from core.datasets.parsed import Parsed, ParsedImage
from core.datasets.source import Source, images_of
from core.errors import BadDataError
from core.settings import Settings

NAME = "images"


def detect(source: Source) -> bool:
    """Whether there are images at all."""
    return bool(images_of(source))


def read(source: Source, settings: Settings, findings: Findings) -> Parsed:
    """All images.

    Raises:
        BadDataError: when there are none.
    """
    images = sorted(images_of(source), key=natural_key)
    if not images:
        raise BadDataError(f"{source.name} holds no images.", "JPEG, PNG, WebP, BMP, TIFF and DICOM are read.")
    return Parsed(NAME, [], [ParsedImage(path, []) for path in images])
