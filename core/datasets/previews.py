"""Case previews: a page of thumbnails, each with its annotation drawn on it, composed into one picture and kept in the storage."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from sqlalchemy.orm import Session

from core.datasets import masks
from core.datasets.deriving import OBJECTS
from core.datasets.fonts import font_for, shortened
from core.datasets.images import flattened
from core.datasets.legend import LINE, colour_of, draw_legend, legend_lines
from core.datasets.records import Record, load_images, load_records
from core.db.session import Database
from core.db.tables import AnnotationSet, Dataset
from core.errors import InvalidInputError, NotFoundError
from core.settings import Settings
from core.storage import Storage
from core.vocabulary import AnnotationKind

PER_PAGE = 50
_DRAWING = 3  # raise when the drawing changes, so that pages kept from before are drawn anew

_PAPER = (255, 255, 255)
_INK = (29, 33, 41)
_QUIET = (107, 114, 128)
_CELL = (241, 243, 246)
_GAP, _MARGIN = 8, 16
_STRIPS = {AnnotationKind.SINGLE_LABEL: 22, AnnotationKind.MULTI_LABEL: 40}  # px below a thumbnail for what it is called


@dataclass(frozen=True)
class PreviewPage:
    """One page: `png_key` in the storage, and the 1-based numbers of its first and last image of `total`."""

    png_key: str
    first: int
    last: int
    total: int


def preview_page(
    database: Database, storage: Storage, settings: Settings, dataset_id: str, annotation_set_id: str, page: int, per_page: int = PER_PAGE
) -> PreviewPage:
    """The page `page` (1-based) of an annotation set's preview, drawn at its first use and kept; of all images, bare, where no set is named.

    Raises:
        NotFoundError: when there is no such dataset, or it has no such annotation set.
        InvalidInputError: when there is no such page.
    """
    if not 1 <= per_page <= PER_PAGE:
        raise InvalidInputError(f"A page shows 1 to {PER_PAGE} images; {per_page} were asked for.")
    with database.read() as session:
        dataset = session.get(Dataset, dataset_id)
        annotation_set = session.get(AnnotationSet, annotation_set_id) if annotation_set_id else None
        if dataset is None or (annotation_set_id and (annotation_set is None or annotation_set.dataset_id != dataset_id)):
            raise NotFoundError("The dataset has no such annotation set.", "`stationmaster dataset show` lists them.")
        found = _page(dataset, annotation_set, page, per_page)
        if storage.exists(found.png_key):
            return found
        records = _records(session, dataset, annotation_set, found)
    _draw(storage, found, records, annotation_set)
    return found


def first_page(storage: Storage, session: Session, dataset: Dataset, annotation_set: AnnotationSet | None) -> None:
    """Draw the first page before anybody asks for it: an import does so with its last step."""
    found = _page(dataset, annotation_set, 1, PER_PAGE)
    if found.total:
        _draw(storage, found, _records(session, dataset, annotation_set, found), annotation_set)


def _records(session: Session, dataset: Dataset, annotation_set: AnnotationSet | None, page: PreviewPage) -> list[Record]:
    offset, limit = max(0, page.first - 1), page.last - page.first + 1
    if annotation_set is None:
        return load_images(session, dataset.id, offset=offset, limit=limit)
    return load_records(session, dataset.id, annotation_set.id, offset=offset, limit=limit)


def _page(dataset: Dataset, annotation_set: AnnotationSet | None, page: int, per_page: int) -> PreviewPage:
    total = dataset.image_count if annotation_set is None else annotation_set.image_count
    pages = max(1, -(-total // per_page))
    if not 1 <= page <= pages:
        raise InvalidInputError(
            f"There is no page {page}: the preview has {pages} {'page' if pages == 1 else 'pages'}.", f"Ask for a page from 1 to {pages}."
        )
    first = (page - 1) * per_page
    shown = "images" if annotation_set is None else annotation_set.id
    return PreviewPage(
        f"datasets/{dataset.id}/previews/{shown}-{per_page}-{page}-v{_DRAWING}.png",
        min(first + 1, total),
        min(first + per_page, total),
        total,
    )


def _draw(storage: Storage, page: PreviewPage, records: Sequence[Record], annotation_set: AnnotationSet | None) -> None:
    title = f"{page.first:,}–{page.last:,} of {page.total:,}"
    files = [storage_bytes(storage, record) for record in records]
    kind = None if annotation_set is None else AnnotationKind(annotation_set.kind)
    picture = draw_page(records, files, kind, [] if annotation_set is None else annotation_set.classes, title)
    out = BytesIO()
    picture.save(out, "PNG", compress_level=4)
    storage.write(page.png_key, out.getvalue())


def storage_bytes(storage: Storage, record: Record) -> bytes:
    """The stored file of a record's image."""
    return storage.read(record.key)


def draw_page(
    records: Sequence[Record], files: Sequence[bytes], kind: AnnotationKind | None, classes: Sequence[str], title: str
) -> Image.Image:
    """A grid of annotated thumbnails under a line of title and legend; bare ones where there is no kind."""
    columns, side = _layout(len(records))
    strip = _STRIPS.get(kind, 0) if kind else 0
    rows = max(1, -(-len(records) // columns))
    width = 2 * _MARGIN + columns * side + (columns - 1) * _GAP
    legend = [] if strip or kind is None else legend_lines(_shown(records, kind), classes, width - 2 * _MARGIN)
    top = _MARGIN + 26 + LINE * len(legend)
    page = Image.new("RGB", (width, top + rows * (side + strip) + (rows - 1) * _GAP + _MARGIN), _PAPER)
    draw = ImageDraw.Draw(page)
    draw.text((_MARGIN, _MARGIN - 4), title, _QUIET, font_for(title, 15))
    draw_legend(draw, legend, _MARGIN, _MARGIN + 20)
    with ThreadPoolExecutor(4, thread_name_prefix="preview") as pool:
        thumbnails = pool.map(lambda pair: _thumbnail(pair[0], pair[1], kind, side), zip(records, files, strict=True))
        for number, (record, thumbnail) in enumerate(zip(records, thumbnails, strict=True)):
            x = _MARGIN + number % columns * (side + _GAP)
            y = top + number // columns * (side + strip + _GAP)
            draw.rounded_rectangle((x, y, x + side - 1, y + side + strip - 1), 4, _CELL)
            page.paste(thumbnail, (x + (side - thumbnail.width) // 2, y + (side - thumbnail.height) // 2))
            if strip and kind:
                _write_labels(draw, record.value, kind, classes, (x, y + side, side, strip))
    return page


def _layout(count: int) -> tuple[int, int]:
    """Columns and side of a thumbnail in px: few images are shown larger."""
    for most, columns, side in ((4, 4, 300), (10, 5, 240), (24, 6, 200)):
        if count <= most:
            return max(1, min(columns, count)), side
    return 10, 140


def _thumbnail(record: Record, file: bytes, kind: AnnotationKind | None, side: int) -> Image.Image:
    image = Image.open(BytesIO(file))
    image.draft("RGB", (side, side))  # JPEG decodes at an eighth, a quarter or a half where that is enough
    picture = flattened(image)
    scale = side / max(record.width, record.height)
    size = (max(1, round(record.width * scale)), max(1, round(record.height * scale)))
    # Enlarged pixels stay pixels: a blurred 28 px digit looks worse than a crisp one.
    resampling = Image.Resampling.NEAREST if scale >= 3 else Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC
    picture = picture.resize(size, resampling, reducing_gap=2 if scale < 1 else None)
    if kind is AnnotationKind.BOXES:
        return _with_boxes(picture, record.value["boxes"], scale)
    if kind in (AnnotationKind.REGIONS, AnnotationKind.INSTANCES):
        return _with_masks(picture, record, kind)
    return picture


def _with_boxes(picture: Image.Image, boxes: list[list[Any]], scale: float) -> Image.Image:
    draw = ImageDraw.Draw(picture)
    for number, x, y, width, height in boxes:
        corners = (round(x * scale), round(y * scale), round((x + width) * scale) - 1, round((y + height) * scale) - 1)
        corners = (corners[0], corners[1], max(corners[0] + 1, corners[2]), max(corners[1] + 1, corners[3]))
        # A dark line outside the coloured one keeps both seen on any ground.
        draw.rectangle((corners[0] - 1, corners[1] - 1, corners[2] + 1, corners[3] + 1), outline=(0, 0, 0))
        draw.rectangle(corners, outline=colour_of(number), width=2)
    return picture


def _with_masks(picture: Image.Image, record: Record, kind: AnnotationKind) -> Image.Image:
    covers = record.value[OBJECTS[kind]]
    if not covers:
        return picture
    pixels = np.asarray(picture).astype(np.float32)
    for number, rle in covers:
        decoded = masks.decode(rle, record.width, record.height)
        cover = np.asarray(Image.fromarray(decoded * 255).resize(picture.size, Image.Resampling.BILINEAR, reducing_gap=2), np.float32) / 255
        inside = cover >= 0.5
        edge = inside & ~_eroded(inside)
        colour = np.asarray(colour_of(number), np.float32)
        pixels += (cover * 0.45)[..., None] * (colour - pixels)
        pixels[_grown(inside) & ~inside] *= 0.35  # a dark line outside the coloured one keeps both seen on any ground
        pixels[edge] = colour
    return Image.fromarray(pixels.round().astype(np.uint8))


def _grown(inside: np.ndarray) -> np.ndarray:
    padded = np.pad(inside, 1)
    grown: np.ndarray = padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]
    return grown


def _eroded(inside: np.ndarray) -> np.ndarray:
    padded = np.pad(inside, 1)
    eroded: np.ndarray = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return eroded


def _write_labels(
    draw: ImageDraw.ImageDraw, value: dict[str, Any], kind: AnnotationKind, classes: Sequence[str], place: tuple[int, int, int, int]
) -> None:
    x, y, width, height = place
    if kind is AnnotationKind.SINGLE_LABEL:
        _write_line(draw, [value["label"]], classes[value["label"]], (x, y, width, height))
        return
    numbers = value["labels"]
    # In two lines: as many as fit into the first, what is left into the second.
    fitting, used = 0, 0.0
    while fitting < len(numbers):
        used += font_for(classes[numbers[fitting]], 13).getlength(classes[numbers[fitting]] + ", ") + 12
        if used > width - 10:
            break
        fitting += 1
    fitting = max(1, fitting)
    lines = [part for part in (numbers[:fitting], numbers[fitting:]) if part] or [[]]
    for number, part in enumerate(lines):
        text = ", ".join(classes[index] for index in part) or "none"
        _write_line(draw, part, text, (x, y + number * height // len(lines), width, height // len(lines)))


def _write_line(draw: ImageDraw.ImageDraw, numbers: Sequence[int], text: str, place: tuple[int, int, int, int]) -> None:
    """One line of labels in the middle, a dot in the colour of each before it."""
    x, y, width, height = place
    dots = min(len(numbers), 4)
    text = shortened(text, 13, width - 14 - 12 * dots)
    font = font_for(text, 13)
    start = x + (width - font.getlength(text) - 12 * dots) / 2
    for dot, number in enumerate(numbers[:4]):
        draw.ellipse((start + 12 * dot, y + height / 2 - 4, start + 12 * dot + 8, y + height / 2 + 4), colour_of(number))
    draw.text((start + 12 * dots + (2 if dots else 0), y + height / 2), text, _INK if numbers else _QUIET, font, anchor="lm")


def _shown(records: Sequence[Record], kind: AnnotationKind) -> list[int]:
    """The classes on this page."""
    return sorted({item[0] for record in records for item in record.value[OBJECTS[kind]]})
