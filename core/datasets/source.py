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
    is_dicom: bool = False  # as its content says; scanners write such files without a suffix


class Source(Protocol):
    """Files that can be listed and read, from several threads at once.

    A source that is `shared` can be pickled for another process of this host, which can then read it too, but not list it.
    """

    name: str
    shared: bool  # another process of this host can read it too
    members: dict[str, Member]
    folders: set[str]

    def open(self, path: str) -> IO[bytes]:
        """The file opened for reading. Raises OSError or KeyError where that fails."""
        ...

    def read(self, path: str, limit: int) -> bytes:
        """The whole file. Raises ValueError if it holds more than `limit` bytes."""
        ...


def images_of(source: Source) -> list[str]:
    """The images of a source, by their names, and DICOM files whatever they are called."""
    return [path for path, member in source.members.items() if member.is_dicom or has_image_suffix(path)]


def has_image_suffix(path: str) -> bool:
    """Whether the name is that of an image that can be read."""
    name = path.rpartition("/")[2]
    dot = name.rfind(".")
    return dot > 0 and name[dot:].lower() in IMAGE_SUFFIXES
