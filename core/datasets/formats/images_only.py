"""Images without labels: to look at, and to test models on."""

from core.datasets.findings import Findings
from core.datasets.names import natural_key
from core.datasets.parsed import Parsed, ParsedImage
from core.datasets.source import Source, is_image
from core.errors import BadDataError
from core.settings import Settings

NAME = "images"


def detect(source: Source) -> bool:
    """Whether there are images at all."""
    return any(is_image(path) for path in source.members)


def read(source: Source, settings: Settings, findings: Findings) -> Parsed:
    """All images.

    Raises:
        BadDataError: when there are none.
    """
    images = sorted((path for path in source.members if is_image(path)), key=natural_key)
    if not images:
        raise BadDataError(f"{source.name} holds no images.", "JPEG, PNG, WebP, BMP, TIFF and DICOM are read.")
    return Parsed(NAME, [], [ParsedImage(path, []) for path in images])
