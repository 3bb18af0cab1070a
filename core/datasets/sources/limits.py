"""Limits on what a source may hold: files too large to read, and archives out of all proportion."""

from typing import IO

from core.errors import BadDataError

BOMB_RATIO = 200  # unpacked : packed, of a member or a whole archive that is also large
BOMB_BYTES = 200_000_000


def read_limited(file: IO[bytes], limit: int) -> bytes:
    """All that a file holds. Raises ValueError if it is more than `limit` bytes."""
    data = file.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"it holds more than {limit:,} bytes")
    return data


def bomb(name: str, path: str, size: int) -> BadDataError:
    """The refusal of an archive, or of the member `path` of it, that would unpack to `size` bytes."""
    where = f"{path} in {name}" if path else name
    return BadDataError(
        f"{where} would unpack to {size:,} bytes, out of all proportion: it looks like a decompression bomb.",
        "Import the images as a folder if they are really that large.",
    )
