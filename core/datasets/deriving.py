"""Annotation sets that follow from others: instances → boxes and regions, and from each of these multi-label. Nothing else.

Derived sets are rows of their own, so that lists and filters see them, but hold no annotations: values are derived when they are read.
"""

from typing import Any

from core.datasets import masks
from core.vocabulary import AnnotationKind

DERIVED: dict[AnnotationKind, tuple[AnnotationKind, ...]] = {
    AnnotationKind.INSTANCES: (AnnotationKind.BOXES, AnnotationKind.REGIONS, AnnotationKind.MULTI_LABEL),
    AnnotationKind.BOXES: (AnnotationKind.MULTI_LABEL,),
    AnnotationKind.REGIONS: (AnnotationKind.MULTI_LABEL,),
}

# Where a value of each kind that has objects keeps them; each object begins with its class index.
OBJECTS = {AnnotationKind.BOXES: "boxes", AnnotationKind.REGIONS: "masks", AnnotationKind.INSTANCES: "objects"}


def classes_in(value: dict[str, Any], kind: AnnotationKind) -> list[int]:
    """The class index of each label or object of a value, repeated as often as it occurs."""
    if kind is AnnotationKind.SINGLE_LABEL:
        return [value["label"]]
    if kind is AnnotationKind.MULTI_LABEL:
        return list(value["labels"])
    return [item[0] for item in value[OBJECTS[kind]]]


def derive(value: dict[str, Any], source: AnnotationKind, target: AnnotationKind, width: int, height: int) -> dict[str, Any]:
    """The value of kind `target` that follows from one of kind `source` on an image of `width` × `height` px.

    Raises:
        ValueError: where nothing follows.
    """
    if target not in DERIVED.get(source, ()):
        raise ValueError(f"from {source} follows no {target}")
    if target is AnnotationKind.MULTI_LABEL:
        return {"labels": sorted(set(classes_in(value, source)))}
    objects = value["objects"]
    ignored = value.get("ignored", ())
    derived: dict[str, Any]
    if target is AnnotationKind.BOXES:
        derived = {"boxes": [[number, *masks.box(rle, width, height)] for number, rle in objects]}
        # As COCO has it, an object is as large as its mask, also where only its box is asked for.
        derived["areas"] = value.get("areas") or [masks.area(rle, width, height) for _, rle in objects]
        if ignored:
            derived["ignored"] = [[number, *masks.box(rle, width, height)] for number, rle in ignored]
        return derived
    derived = {"masks": masks.by_class(objects, width, height)}
    if ignored:
        derived["ignored"] = masks.unite([rle for _, rle in ignored], width, height)
    return derived
