"""Annotation sets that follow from others: instances → boxes and regions, and from each of these multi-label. Nothing else.

Derived sets are rows of their own, so that lists and filters see them, but hold no annotations: values are derived when they are read.
"""

from typing import Any

from pycocotools import mask as coco

from core.vocabulary import AnnotationKind

DERIVED: dict[AnnotationKind, tuple[AnnotationKind, ...]] = {
    AnnotationKind.INSTANCES: (AnnotationKind.BOXES, AnnotationKind.REGIONS, AnnotationKind.MULTI_LABEL),
    AnnotationKind.BOXES: (AnnotationKind.MULTI_LABEL,),
    AnnotationKind.REGIONS: (AnnotationKind.MULTI_LABEL,),
}


def classes_in(value: dict[str, Any], kind: AnnotationKind) -> list[int]:
    """The class index of each label or object of a value, repeated as often as it occurs."""
    if kind is AnnotationKind.SINGLE_LABEL:
        return [value["label"]]
    if kind is AnnotationKind.MULTI_LABEL:
        return list(value["labels"])
    return [
        item[0]
        for item in value[{AnnotationKind.BOXES: "boxes", AnnotationKind.REGIONS: "masks", AnnotationKind.INSTANCES: "objects"}[kind]]
    ]


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
    if target is AnnotationKind.BOXES:
        boxes = coco.toBbox([_rle(rle, width, height) for _, rle in objects]) if objects else []
        return {"boxes": [[number, *(float(side) for side in box)] for (number, _), box in zip(objects, boxes, strict=True)]}
    by_class: dict[int, list[str]] = {}
    for number, rle in objects:
        by_class.setdefault(number, []).append(rle)
    return {"masks": [[number, unite(rles, width, height)] for number, rles in sorted(by_class.items())]}


def unite(rles: list[str], width: int, height: int) -> str:
    """One mask that covers what any of the masks covers; all as COCO's compressed counts."""
    if len(rles) == 1:
        return rles[0]
    merged = coco.merge([_rle(rle, width, height) for rle in rles])
    return str(merged["counts"].decode("ascii"))


def _rle(counts: str, width: int, height: int) -> dict[str, Any]:
    return {"size": [height, width], "counts": counts.encode("ascii")}
