"""What training reads: one record per image of an annotation set."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core.datasets.deriving import derive
from core.db.tables import Annotation, AnnotationSet, DatasetImage
from core.errors import NotFoundError
from core.vocabulary import AnnotationKind


@dataclass(frozen=True, slots=True)
class Record:
    """One image with what the annotation set says of it; `value` as in `core.db.tables.Annotation`, `key` its object in the storage.

    `split` is "", train, val or test, as the source said; images of one non-empty `group` never fall on both sides of a split.
    """

    position: int
    path: str
    key: str
    width: int
    height: int
    split: str
    group: str
    value: dict[str, Any]


def load_images(session: Session, dataset_id: str, *, offset: int = 0, limit: int | None = None) -> list[Record]:
    """All images of a dataset in the order of positions, whatever is said of them: `value` is empty. `offset` and `limit` count images."""
    image = DatasetImage
    columns = (image.position, image.path, image.key, image.width, image.height, image.split, image.group)
    query = select(*columns).where(image.dataset_id == dataset_id).order_by(image.position).offset(offset).limit(limit)
    return [Record(*row, {}) for row in session.execute(query)]


def split_counts(session: Session, dataset_id: str, annotation_set_id: str) -> dict[str, int]:
    """How many of an annotation set's images the source put into each split: "", train, val or test.

    Raises:
        NotFoundError: when the dataset has no such annotation set.
    """
    stored = _stored(session, _wanted(session, dataset_id, annotation_set_id))
    query = (
        select(DatasetImage.split, func.count())
        .join(Annotation, (DatasetImage.dataset_id == dataset_id) & (DatasetImage.position == Annotation.position))
        .where(Annotation.annotation_set_id == stored.id)
        .group_by(DatasetImage.split)
    )
    return dict(session.execute(query).all())


def load_records(session: Session, dataset_id: str, annotation_set_id: str, *, offset: int = 0, limit: int | None = None) -> list[Record]:
    """The records of an annotation set in the order of positions; derived sets are derived here.

    `offset` and `limit` count records. Raises:
        NotFoundError: when the dataset has no such annotation set.
    """
    wanted = _wanted(session, dataset_id, annotation_set_id)
    stored = _stored(session, wanted)
    query = (
        select(
            DatasetImage.position,
            DatasetImage.path,
            DatasetImage.key,
            DatasetImage.width,
            DatasetImage.height,
            DatasetImage.split,
            DatasetImage.group,
            Annotation.value,
        )
        .join(DatasetImage, (DatasetImage.dataset_id == dataset_id) & (DatasetImage.position == Annotation.position))
        .where(Annotation.annotation_set_id == stored.id)
        .order_by(Annotation.position)
        .offset(offset)
        .limit(limit)
    )
    rows = session.execute(query)
    if stored.kind == wanted.kind:
        return [Record(*row) for row in rows.all()]
    source, target = AnnotationKind(stored.kind), AnnotationKind(wanted.kind)
    return [Record(row[0], row[1], row[2], row[3], row[4], row[5], row[6], derive(row[7], source, target, row[3], row[4])) for row in rows]


def _wanted(session: Session, dataset_id: str, annotation_set_id: str) -> AnnotationSet:
    wanted = session.get(AnnotationSet, annotation_set_id)
    if wanted is None or wanted.dataset_id != dataset_id:
        raise NotFoundError("The dataset has no such annotation set.", "`stationmaster dataset show` lists them.")
    return wanted


def _stored(session: Session, wanted: AnnotationSet) -> AnnotationSet:
    """The set whose annotations are kept: itself, or the one it is derived from."""
    return session.get_one(AnnotationSet, wanted.derived_from) if wanted.derived_from else wanted
