"""How well the classes of a dataset are represented."""

from collections.abc import Sequence

from core.vocabulary import AnnotationKind

CUT_OFF = 0.5  # a class with less than half of an equal share of the images is under-represented
WELL, MILDLY, SERIOUSLY = "well", "mildly under-represented", "seriously under-represented"

ONE_CLASS_REMEDY = "Add images of what it is to be told from, as a class of their own."


def one_class_text(kind: str, classes: Sequence[str], counts: Sequence[int]) -> str:
    """What a model of labels of `kind` can tell where all images show the same class, with `counts` images a class; empty elsewhere."""
    shown = [name for name, count in zip(classes, counts, strict=True) if count]
    if kind != AnnotationKind.SINGLE_LABEL or len(shown) != 1:
        return ""
    return f"All images show only one class, “{shown[0]}”: a model of it says the same of every image, and is right with all of these."


def representation(images: Sequence[int], cut_off: float = CUT_OFF) -> list[str]:
    """How well each class is represented, by its number of images against an equal share of all: `WELL` from `cut_off` of that share on,
    `MILDLY` under-represented from half of it, else `SERIOUSLY`."""
    total, classes = sum(images), len(images)
    found = []
    for count in images:
        ratio = count * classes / total if total else 0.0
        found.append(WELL if ratio >= cut_off else MILDLY if ratio >= cut_off / 2 else SERIOUSLY)
    return found
