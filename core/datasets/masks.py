"""Masks as COCO's run-length encoding: pycocotools does the work, and nothing from outside reaches it unchecked.

An encoding is the compressed `counts` string over a height × width image, column by column, background first.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco

from core.datasets.parsed import Geometry, Polygons, Rle

_LONGEST_OUTLINE = 5_000_000  # px; pycocotools allocates 40 bytes for each, whatever the image's size


def encode(mask: np.ndarray) -> str:
    """The encoding of a mask [height, width]; what is not 0 is covered."""
    found = coco.encode(np.asfortranarray(mask != 0).view(np.uint8))
    return str(found["counts"].decode("ascii"))


def encode_part(part: np.ndarray, left: int, top: int, width: int, height: int) -> str:
    """The encoding of a mask of `width` and `height` that covers something only in `part`, [h, w], whose corner lies at `left` and `top`.

    As `encode` of the whole mask, in a time that follows the part's size.
    """
    framed = np.zeros((part.shape[1], part.shape[0] + 2), np.bool_)
    framed[:, 1:-1] = part.T != 0
    # In each column by turns where covered pixels begin and where they have ended.
    column, row = np.divmod(np.flatnonzero(framed[:, 1:] != framed[:, :-1]), part.shape[0] + 1)
    turns = (left + column) * height + top + row
    # What is covered down to the last line goes on in the first line of the next column, if that is covered, too.
    goes_on = turns[1:] == turns[:-1]
    turns = turns[~(np.append(goes_on, False) | np.append(False, goes_on))] if goes_on.any() else turns
    runs = np.diff(turns, prepend=0, append=width * height).tolist()
    found = coco.frPyObjects({"size": [height, width], "counts": runs if runs[-1] else runs[:-1]}, height, width)
    return str(found["counts"].decode("ascii"))


def decode(counts: str, width: int, height: int) -> np.ndarray:
    """The mask [height, width] as uint8 0 and 1."""
    return np.asarray(coco.decode(_rle(counts, width, height)))


def area(counts: str, width: int, height: int) -> int:
    """How many pixels are covered."""
    return int(coco.area(_rle(counts, width, height)))


def box(counts: str, width: int, height: int) -> tuple[float, float, float, float]:
    """x, y, width and height of the smallest box around what is covered."""
    x, y, w, h = (float(side) for side in coco.toBbox(_rle(counts, width, height)))
    return x, y, w, h


def unite(many: Sequence[str], width: int, height: int) -> str:
    """One mask that covers what any of the masks covers."""
    if len(many) == 1:
        return many[0]
    merged = coco.merge([_rle(counts, width, height) for counts in many])
    return str(merged["counts"].decode("ascii"))


def by_class(found: Iterable[Sequence[Any]], width: int, height: int) -> list[list[Any]]:
    """One mask per class, in their order, from class index and mask of single objects."""
    grouped: dict[int, list[str]] = {}
    for number, rle in found:
        grouped.setdefault(number, []).append(rle)
    return [[number, unite(rles, width, height)] for number, rles in sorted(grouped.items())]


def from_polygons(rings: Iterable[Sequence[float]], width: int, height: int) -> str:
    """The mask that flat rings x0, y0, x1, y1, … cover together.

    Raises:
        ValueError: when no ring has three points, a coordinate is not finite, or the outlines are absurdly long.
    """
    usable = []
    near = min(width, height)
    for ring in rings:
        if len(ring) < 6:
            continue
        points = np.array(ring[: len(ring) // 2 * 2], np.float64)
        low, high = points.min(), points.max()
        if not (low > -near and high < 2 * near):  # not so for NaN either
            if not np.isfinite(points).all():
                raise ValueError("a coordinate is not finite")
            # Far outside the image nothing is drawn anyway.
            points[0::2] = points[0::2].clip(-width, 2 * width)
            points[1::2] = points[1::2].clip(-height, 2 * height)
        usable.append(points)
    if not usable:
        raise ValueError("no polygon has three points")
    # No step is longer than three times width and height together: what that allows need not be measured.
    if sum(map(len, usable)) / 2 * 3 * (width + height) > _LONGEST_OUTLINE:
        length = sum(float(np.hypot(*(np.diff(ring[axis::2], append=ring[axis]) for axis in (0, 1))).sum()) for ring in usable)
        if length > _LONGEST_OUTLINE:
            raise ValueError(f"the outline is {length:,.0f} px long")
    return unite([found["counts"].decode("ascii") for found in coco.frPyObjects(usable, height, width)], width, height)


def from_outlines(rings: Sequence[Sequence[float]], width: int, height: int) -> list[tuple[str, int]] | None:
    """Encoding and area of each flat ring by itself, all in one go: most of the time that single polygons take is spent around them.

    None where any of them needs a closer look, see `from_polygons`.
    """
    lengths = [len(ring) for ring in rings]
    if not rings or min(lengths) < 6 or any(length % 2 for length in lengths):
        return None
    points = np.concatenate([np.asarray(ring) for ring in rings]).astype(np.float64)
    near = min(width, height)
    if not (points.min() > -near and points.max() < 2 * near) or max(lengths) / 2 * 3 * (width + height) > _LONGEST_OUTLINE:
        return None
    ends = np.cumsum(lengths).tolist()
    found = coco.frPyObjects([points[end - length : end] for end, length in zip(ends, lengths, strict=True)], height, width)
    areas = coco.area(found).tolist()
    return [(one["counts"].decode("ascii"), int(area)) for one, area in zip(found, areas, strict=True)]


def from_counts(counts: bytes | Sequence[int], width: int, height: int) -> str:
    """The encoding given as compressed bytes or as plain run lengths, checked.

    Raises:
        ValueError: when the runs are no runs, or do not add up to the image.
    """
    runs = _runs(counts) if isinstance(counts, bytes) else np.asarray(counts, np.int64)
    if runs.ndim != 1 or (runs < 0).any() or (runs > width * height).any() or int(runs.sum()) != width * height:
        raise ValueError(f"the runs do not add up to {width} × {height} px")
    if isinstance(counts, bytes):
        return counts.decode("ascii")
    found = coco.frPyObjects({"size": [height, width], "counts": runs.tolist()}, height, width)
    return str(found["counts"].decode("ascii"))


def _runs(counts: bytes) -> np.ndarray:
    """The run lengths in a compressed string: numbers of 5 bits a character, each from the third on relative to the one before the last."""
    codes = np.frombuffer(counts, np.uint8).astype(np.int64) - 48
    if codes.size == 0 or codes.min() < 0 or codes.max() > 63:
        raise ValueError("it holds characters that are no run-length encoding")
    ends = np.flatnonzero((codes & 0x20) == 0)
    if ends.size == 0 or ends[-1] != codes.size - 1:
        raise ValueError("it ends within a number")
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    if lengths.max() > 6:
        raise ValueError("a number is too large")
    place = np.arange(codes.size) - np.repeat(starts, lengths)
    values = np.add.reduceat((codes & 0x1F) << (5 * place), starts)
    negative = (codes[ends] & 0x10) != 0
    values[negative] |= np.int64(-1) << (5 * lengths[negative])
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values


def transformed(counts: str, width: int, height: int, transpose: Image.Transpose | None, size: tuple[int, int]) -> str:
    """A mask turned as its image was, and scaled to `size` (width, height)."""
    picture = Image.fromarray(decode(counts, width, height) * 255)
    if transpose is not None:
        picture = picture.transpose(transpose)
    if picture.size != size:
        picture = picture.resize(size, Image.Resampling.BILINEAR)
    return encode(np.asarray(picture) >= 128)


def extent(mask: Geometry) -> tuple[float, float, float, float] | None:
    """The box around a mask, None where the mask is no mask."""
    if isinstance(mask, Rle):
        try:
            return box(from_counts(mask.counts, mask.width, mask.height), mask.width, mask.height)
        except ValueError:
            return None
    rings = mask.rings if isinstance(mask, Polygons) else ()
    xs = [x for ring in rings for x in ring[0::2]]
    ys = [y for ring in rings for y in ring[1::2]]
    return (min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)) if xs and ys else None


def _rle(counts: str, width: int, height: int) -> dict[str, Any]:
    return {"size": [height, width], "counts": counts.encode("ascii")}
