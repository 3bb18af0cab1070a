"""How well the classes of a dataset are represented."""

from collections.abc import Sequence

CUT_OFF = 0.5  # a class with less than half of an equal share of the images is under-represented
WELL, MILDLY, SERIOUSLY = "well", "mildly under-represented", "seriously under-represented"


def representation(images: Sequence[int], cut_off: float = CUT_OFF) -> list[str]:
    """How well each class is represented, by its number of images against an equal share of all: `WELL` from `cut_off` of that share on,
    `MILDLY` under-represented from half of it, else `SERIOUSLY`."""
    total, classes = sum(images), len(images)
    found = []
    for count in images:
        ratio = count * classes / total if total else 0.0
        found.append(WELL if ratio >= cut_off else MILDLY if ratio >= cut_off / 2 else SERIOUSLY)
    return found
