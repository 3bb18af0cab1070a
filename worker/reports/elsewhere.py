"""Runs an exported model without Stationmaster: `python predict.py picture.jpg another.png`.

Needs numpy, pillow and onnxruntime, and beside it model.onnx and model_card.json. Prints one JSON document per picture, on a line of its
own. With `--masks FOLDER` a model for regions also writes one black and white PNG per picture and class it has found, a model for instances
one per object.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image, ImageFile, ImageOps

LARGEST_JUDGED = 1024  # px
LARGEST_PICTURE = 200_000_000  # pixels of which Pillow warns; it refuses what has twice as many


def read(path: Path, side: int) -> tuple[Image.Image, tuple[int, int]]:
    """A picture as RGB, upright, what is transparent white, and its size; JPEGs are decoded at the smallest scale that has `side` pixels."""
    with Image.open(path) as opened:
        turned = opened.getexif().get(0x0112, 1) in (5, 6, 7, 8)
        size = (opened.height, opened.width) if turned else opened.size
        if opened.format == "JPEG":
            opened.draft("RGB", (side, side))
        image: Image.Image = ImageOps.exif_transpose(in_full(opened, path))
        if opened.format == "TIFF":  # turned by Pillow already, its size too
            size = image.size
        if image.mode in ("I", "F") or image.mode.startswith("I;16"):
            image = in_eight_bits(image)
        if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
            layered = image.convert("RGBA")
            image = Image.new("RGBA", layered.size, "white")
            image.alpha_composite(layered)
        return image.convert("RGB"), size


def in_full(opened: ImageFile.ImageFile, path: Path) -> Image.Image:
    """Of a PNG or TIFF with 16 bits for each of several channels, of which Pillow reads the upper eight, all of them; others as they are.

    Raises:
        ValueError: for a TIFF of which Pillow would make another picture.
    """
    others = {
        f"{channels};16{order}": f"{channels};16{other}" for channels in ("RGB", "RGBA", "RGBX") for order, other in ("BL", "LB", "NB")
    }
    others["LA;16B"] = "RGBA"
    with Image.open(path) as again:
        if again.format not in ("PNG", "TIFF") or not again.tile:
            return opened
        codec, args, tags = again.tile[0][0], again.tile[0][3], getattr(again, "tag_v2", {})
        raw = str(args[0] if isinstance(args, tuple) else args)
        apart = tags.get(284) == 2 and tags.get(277, 1) > 1 and max(tags.get(258, (1,))) > 8
        if apart or (codec == "libtiff" and raw in ("I;16BS", "I;32BS", "F;32BF")):
            raise ValueError("more than 8 bits in separate planes, or big-endian and compressed, are not read")
        other = others.get(raw)
        if other is None:
            return opened
        again.tile = [type(tile)(*tile[:3], (other, *tile[3][1:]) if isinstance(tile[3], tuple) else other) for tile in again.tile]
        lower = np.asarray(again)
    upper, exif = np.asarray(opened), opened.getexif()
    values = upper[..., :3] * np.float32(256) + (lower[..., [1, 1, 1]] if other == "RGBA" else lower[..., :3])
    image = Image.fromarray(np.concatenate([stretched(values), upper[..., 3:]], axis=2))
    image.getexif().update(exif)
    return image


def in_eight_bits(image: Image.Image) -> Image.Image:
    """More than 8 bits of grey, stretched from the darkest to the brightest value; values that fit 8 bits stay as they are."""
    values = np.nan_to_num(np.asarray(image if image.mode == "F" else image.convert("I"), np.float32), nan=0, posinf=0, neginf=0)
    return Image.fromarray(stretched(values, whole_numbers=image.mode != "F"))


def stretched(values: np.ndarray, *, whole_numbers: bool = True) -> np.ndarray:
    """From the darkest to the brightest value, but for outliers, 0 to 255; whole numbers that fit 8 bits stay as they are."""
    ordered = np.sort(values, axis=None)
    low, high = float(ordered[0]), float(ordered[-1])
    if not (whole_numbers and low >= 0 and high <= 255):
        low, high = without_outliers(ordered, values.shape[0] * values.shape[1])
        values = np.clip(values, low, high)
    if high > low and not (whole_numbers and low >= 0 and high <= 255):
        values = (values - low) * (255 / (high - low)) + 0.5
    eight_bits: np.ndarray = np.clip(values, 0, 255).astype(np.uint8)
    return eight_bits


def without_outliers(ordered: np.ndarray, pixels: int) -> tuple[float, float]:
    """The darkest and the brightest value that count: a pixel of each 10,000 may lie far outside the range of all others."""
    few = min(-(-pixels // 10_000) * (ordered.size // pixels), (ordered.size - 1) // 2)
    low, high, least, most = (float(ordered[place]) for place in (few, -1 - few, 0, -1))
    return low if low - least > high - low > 0 else least, high if most - high > high - low > 0 else most


def prepare(image: Image.Image, side: int) -> np.ndarray:
    """Stretched to [1, side, side, 3] of bytes, as the model was trained."""
    if image.size != (side, side):
        larger = image.width >= 2 * side and image.height >= 2 * side
        image = image.resize((side, side), Image.Resampling.BILINEAR, reducing_gap=2.0 if larger else None)
    return np.asarray(image)[None]


def describe(card: dict[str, Any], probabilities: np.ndarray, size: tuple[int, int], masks: Path | None, stem: str) -> dict[str, Any]:
    """What the model says of one picture; `probabilities` [classes] or, for regions, [classes, side, side]."""
    classes = card["classes"]
    if probabilities.ndim == 3:
        covered = where(probabilities, judged_size(*size), exclusive=bool(card.get("exclusive")))
        return {"regions": [region(*pair, size, masks, stem) for pair in zip(classes, covered, strict=True)]}
    order = np.argsort(-probabilities)
    labels = [{"label": classes[index], "confidence": float(probabilities[index])} for index in order]
    if card["task_type"] == "multi-label":
        thresholds = card.get("thresholds") or [0.5] * len(classes)
        for label, index in zip(labels, order, strict=True):
            label["present"] = bool(probabilities[index] >= thresholds[index])
    return {"labels": labels}


def judged_size(width: int, height: int) -> tuple[int, int]:
    """The size at which the model was judged: the picture's, or of large ones that of a smaller copy."""
    scale = min(1, LARGEST_JUDGED / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def where(probabilities: np.ndarray, size: tuple[int, int], *, exclusive: bool) -> np.ndarray:
    """Where each class is said, [classes, height, width] of false and true; of classes that are `exclusive` there is one at a place at most.

    As the model was judged, what is stretched is the evidence, not how likely it makes a class.
    """
    likely = np.clip(probabilities.astype(np.float64), 1e-9, 1 - 1e-7)
    against = np.clip(1 - likely.sum(0, keepdims=True), 1e-9, 1) if exclusive else 1 - likely
    evidence = np.stack([between(between(one.T, size[0]).T, size[1]) for one in np.log(likely) - np.log(against)])
    said = evidence > 0
    if exclusive:
        said &= np.arange(len(said))[:, None, None] == evidence.argmax(0)
    return said


def covered_at(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Where a mask of probabilities says so at this size; of large pictures only the part in which it may is worked out."""
    covered = np.zeros((size[1], size[0]), bool)
    columns, rows = (np.flatnonzero((mask >= 0.5).any(axis)) for axis in (0, 1))
    if len(rows):
        across, down = around(columns, mask.shape[1], size[0]), around(rows, mask.shape[0], size[1])
        covered[down, across] = between(between(mask.T, size[0], across).T, size[1], down) >= 0.5
    return covered


def around(places: np.ndarray, given: int, wanted: int) -> slice:
    """Of `wanted` pixels that `given` ones are stretched to those that lie between the first and the last of the `places`, or next to them."""
    return slice(max(0, int((places[0] - 1) * wanted / given)), min(wanted, int((places[-1] + 2) * wanted / given) + 1))


def between(lines: np.ndarray, count: int, part: slice = slice(None)) -> np.ndarray:
    """So many lines, evenly between those given, [given, …], or a part of them."""
    place = np.clip((np.arange(count)[part] + 0.5) * (len(lines) / count) - 0.5, 0, len(lines) - 1)
    low = place.astype(np.int64)
    share = (place - low).astype(lines.dtype)[:, None]
    stretched_lines: np.ndarray = lines[low] * (1 - share) + lines[np.minimum(low + 1, len(lines) - 1)] * share
    return stretched_lines


def region(name: str, covered: np.ndarray, size: tuple[int, int], masks: Path | None, stem: str) -> dict[str, Any]:
    """The share of the picture that a class covers, [height, width] of false and true, and how many of its pixels; a mask has the picture's `size`."""
    found: dict[str, Any] = {"label": name, "share": float(covered.mean()), "pixels": pixels_at(covered, size)}
    if masks is not None and covered.any():
        masks.mkdir(parents=True, exist_ok=True)
        file = masks / f"{stem}-{name.replace('/', '-')}.png"
        Image.fromarray(covered.astype(np.uint8) * 255).resize(size, Image.Resampling.NEAREST).save(file)
        found["mask"] = str(file)
    return found


def pixels_at(mask: np.ndarray, size: tuple[int, int]) -> int:
    """How many pixels a mask, [height, width], covers where it is stretched to `size`, width and height, by nearest neighbours.

    As in the bot, of which this script must have nothing.
    """
    across, down = (
        # Which pixel each comes from, as Pillow has it.
        np.bincount(np.asarray(Image.fromarray(np.arange(given, dtype=np.int32)[None]).resize((wanted, 1), Image.Resampling.NEAREST))[0])
        for wanted, given in zip(size, mask.shape[::-1], strict=True)
    )
    high, wide = len(down), len(across)  # the last ones may be left out where the mask is larger
    return int(down @ mask[:high, :wide].astype(np.int64) @ across)


def find_objects(
    card: dict[str, Any], outputs: dict[str, np.ndarray], size: tuple[int, int], masks: Path | None, stem: str
) -> list[dict[str, Any]]:
    """The objects from each class's threshold on, the surest first: label, confidence, box (x, y, width, height in the picture's pixels)."""
    classes, side = card["classes"], card["preprocessing"]["size"][0]
    thresholds = card.get("thresholds") or [0.5] * len(classes)
    scale = np.array([size[0], size[1], size[0], size[1]]) / side
    objects: list[dict[str, Any]] = []
    for index, (box, label, score) in enumerate(zip(outputs["boxes"], outputs["labels"], outputs["scores"], strict=True)):
        if score < thresholds[label]:
            continue
        x1, y1, x2, y2 = np.clip(box * scale, 0, [size[0], size[1], size[0], size[1]]).tolist()
        found = {"label": classes[label], "confidence": float(score), "box": [round(v, 2) for v in (x1, y1, x2 - x1, y2 - y1)]}
        if "masks" in outputs:
            covered = covered_at(outputs["masks"][index], size)
            found["pixels"] = int(covered.sum())
            if masks is not None and covered.any():
                masks.mkdir(parents=True, exist_ok=True)
                file = masks / f"{stem}-{len(objects) + 1}-{classes[label].replace('/', '-')}.png"
                Image.fromarray(covered.astype(np.uint8) * 255).save(file)
                found["mask"] = str(file)
        objects.append(found)
    return objects


def named_apart(pictures: Sequence[Path]) -> list[str]:
    """What the masks of each picture are called by: its name, with a number where another picture, of another folder or format, has it."""
    names: list[str] = []
    taken: set[str] = set()  # as file systems see it that know no capitals
    for picture in pictures:
        name, number = picture.stem, 1
        while name.casefold() in taken:
            number += 1
            name = f"{picture.stem}-{number}"
        taken.add(name.casefold())
        names.append(name)
    return names


def main() -> None:
    """Read the pictures named on the command line and print what the model says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument("--masks", type=Path, help="folder for the masks of a model for segmentation")
    parser.add_argument("--threshold", type=float, help="confidence, 0 to 1, from which on an object or one of several labels counts")
    arguments = parser.parse_args()
    Image.MAX_IMAGE_PIXELS = LARGEST_PICTURE
    here = Path(__file__).resolve().parent
    card = json.loads((here / "model_card.json").read_text(encoding="utf-8"))
    if arguments.threshold is not None:
        if card["task_type"] not in ("multi-label", "object-detection") and not card["spec"].get("instances_only"):
            parser.error("this model has no threshold: it tells the likeliest class")
        if not 0 <= arguments.threshold <= 1:
            parser.error(f"--threshold is a confidence from 0 to 1; {arguments.threshold:g} was given")
        card["thresholds"] = [arguments.threshold] * len(card["classes"])
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only: loops over objects are warned of at each object
    session = onnxruntime.InferenceSession(str(here / "model.onnx"), options, providers=onnxruntime.get_available_providers())
    names = [output.name for output in session.get_outputs()]
    side = card["preprocessing"]["size"][0]
    failed = 0
    for path, stem in zip(arguments.pictures, named_apart(arguments.pictures), strict=True):
        try:
            image, size = read(path, side)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # Pillow raises all of these for damaged files
            failed += 1
            sys.stdout.write(json.dumps({"picture": str(path), "error": f"It could not be read: {error}"}, ensure_ascii=False) + "\n")
            continue
        outputs = dict(zip(names, session.run(names, {"images": prepare(image, side)}), strict=True))
        if "boxes" in outputs:
            said = {"objects": find_objects(card, outputs, size, arguments.masks, stem)}
        else:
            said = describe(card, outputs["probabilities"][0], size, arguments.masks, stem)
        found = {"picture": str(path), **said}
        sys.stdout.write(json.dumps(found, ensure_ascii=False) + "\n")
    if failed:
        sys.exit(f"{failed} of {len(arguments.pictures)} pictures could not be read.")


if __name__ == "__main__":
    main()
