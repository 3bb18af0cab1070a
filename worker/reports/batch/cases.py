"""One case of a batch test: an image on which a class was recognised, invented or overlooked.

What makes a case telling is found out from numbers; its picture is made when the page has room for it. So however many images and classes
there are, no more pictures are at hand than are drawn.
"""

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO

from PIL import Image

from core.datasets.images import flattened
from core.datasets.records import Record
from core.storage import Storage

SAMPLES = 3  # of each kind and class
COLOURS = {"true-positive": (0, 158, 115), "false-positive": (213, 94, 0), "false-negative": (180, 140, 0)}
CASE_SIDE = 240  # px, of a case's picture before it is fitted into the page


@dataclass(frozen=True)
class Case:
    """Of which class and kind (a key of `COLOURS`), on which image, and how sure the model was (None where it said nothing).

    `text` is written below its picture, in a line or several. In a `tinted` picture every pixel of the class has the colour of its kind.
    """

    label: str
    kind: str
    file: str
    picture: Callable[[], Image.Image]
    text: str
    confidence: float | None = None
    tinted: bool = False


def picture_of(record: Record, storage: Storage, side: int = 0) -> Image.Image:
    """An image of the dataset, in RGB; with `side` no larger than that."""
    with Image.open(BytesIO(storage.read(record.key))) as image:
        if side:
            image.draft("RGB", (side, side))
        picture = flattened(image)
    if side:
        picture.thumbnail((side, side))
    return picture


def fitted_thumbnail(image: Image.Image, side: int) -> Image.Image:
    """An image with its longer side `side` px long."""
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.NEAREST if scale >= 4 else Image.Resampling.BICUBIC)
