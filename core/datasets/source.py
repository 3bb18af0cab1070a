"""What every dataset comes from, whatever it is: files that can be listed and read. `core.datasets.sources` opens them."""

from dataclasses import dataclass
from typing import IO, Protocol

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".dcm", ".dicom", ".gif", ".pgm", ".ppm"}
)


@dataclass(frozen=True, slots=True)
class Member:
    """One file of a source: its path with forward slashes, relative to the source's root, and its size in bytes."""

    path: str
    size: int


class Source(Protocol):
    """Files that can be listed and read, from several threads at once.

    A source can be pickled for another process of this host, which can then read it too, but not list it.
    """

    name: str
    members: dict[str, Member]
    folders: set[str]

    def open(self, path: str) -> IO[bytes]:
        """The file opened for reading. Raises OSError or KeyError where that fails."""
        ...

    def read(self, path: str, limit: int) -> bytes:
        """The whole file. Raises ValueError if it holds more than `limit` bytes."""
        ...


def is_image(path: str) -> bool:
    """Whether the name is that of an image that can be read; DICOM files without a suffix are looked into elsewhere."""
    name = path.rpartition("/")[2]
    dot = name.rfind(".")
    return dot > 0 and name[dot:].lower() in IMAGE_SUFFIXES
