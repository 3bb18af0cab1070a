"""Finding, listing, renaming and deleting datasets. Every query runs on an index, lists come in pages."""

import difflib
from collections.abc import Sequence

from sqlalchemy import ColumnElement, String, cast, delete, exists, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, selectinload

from core.access import Actor, require_owner
from core.db.session import Database
from core.db.tables import AnnotationSet, Dataset, DatasetFinding, Task
from core.errors import ConflictError, NotFoundError
from core.names import clean_name
from core.storage import Storage
from core.vocabulary import AnnotationKind, TaskType

_NAMES_TO_COMPARE = 5_000  # looked through for close names when one is not found


def find_dataset(session: Session, workspace: str, name_or_id: str) -> Dataset:
    """The visible dataset of that name, or else of that id.

    Raises:
        NotFoundError: with the closest names as its remedy.
    """
    ready = select(Dataset).where(Dataset.workspace == workspace, Dataset.state == "ready").options(selectinload(Dataset.annotation_sets))
    found = session.scalar(ready.where(Dataset.name == name_or_id)) or session.scalar(ready.where(Dataset.id == name_or_id))
    if found is not None:
        return found
    names = session.scalars(
        select(Dataset.name).where(Dataset.workspace == workspace, Dataset.state == "ready").order_by(Dataset.name).limit(_NAMES_TO_COMPARE)
    ).all()
    raise NotFoundError(f"There is no dataset “{name_or_id[:100]}”.", _closest(name_or_id, names))


def _closest(name: str, names: Sequence[str]) -> str:
    if not names:
        return "Import one with `stationmaster dataset import PATH --name NAME`."
    by_folded = {known.casefold(): known for known in names}
    close = [by_folded[match] for match in difflib.get_close_matches(name.casefold(), by_folded, n=3, cutoff=0.5)]
    if close:
        return "Did you mean " + " or ".join(f"“{match}”" for match in close) + "?"
    return "`stationmaster dataset list` shows all."


def list_datasets(
    session: Session, workspace: str, *, task_type: TaskType | None = None, search: str = "", offset: int = 0, limit: int = 50
) -> tuple[list[Dataset], int]:
    """One page of the visible datasets by name, annotation sets loaded, and how many there are in all.

    `task_type` keeps those from which it can be learnt, as `learnable_sets` has it; `search` those whose name holds the text, in any case of letters.
    """
    conditions: list[ColumnElement[bool]] = [Dataset.workspace == workspace, Dataset.state == "ready"]
    if task_type is not None:
        kinds = [kind.value for kind in task_type.kinds]
        # The list of counts as text: what is left of it without noughts is what is shown.
        shown = func.ltrim(cast(AnnotationSet.class_counts, String), "[]0, ") != ""
        conditions.append(exists().where(AnnotationSet.dataset_id == Dataset.id, AnnotationSet.kind.in_(kinds), shown))
    if search.strip():
        conditions.append(Dataset.name_holds(search))
    total = session.scalar(select(func.count()).select_from(Dataset).where(*conditions)) or 0
    if not total:
        return [], 0
    page = (
        select(Dataset)
        .where(*conditions)
        .order_by(Dataset.folded_name, Dataset.name)
        .offset(offset)
        .limit(limit)
        .options(selectinload(Dataset.annotation_sets))
    )
    return list(session.scalars(page)), total


def annotation_sets_for(dataset: Dataset, task_type: TaskType) -> list[AnnotationSet]:
    """The dataset's annotation sets of the kinds that the task type needs, those of the source before derived ones."""
    kinds = {kind.value for kind in task_type.kinds}
    return sorted(
        (one for one in dataset.annotation_sets if one.kind in kinds), key=lambda one: (one.derived_from is not None, one.position)
    )


def learnable_sets(dataset: Dataset, task_type: TaskType) -> list[AnnotationSet]:
    """Those of `annotation_sets_for` that the task type can be trained on: at least one image shows one of their classes."""
    return [one for one in annotation_sets_for(dataset, task_type) if any(one.class_counts)]


def set_text(dataset: Dataset, annotation_set_id: str, task_type: TaskType) -> str:
    """Name and kind of an annotation set of the dataset; empty where the task type can be trained on no other, so that nobody need ask which."""
    chosen = next((one for one in dataset.annotation_sets if one.id == annotation_set_id), None)
    if chosen is None or len(learnable_sets(dataset, task_type)) < 2:
        return ""
    title = AnnotationKind(chosen.kind).title
    return chosen.name if chosen.name == title else f"{chosen.name} ({title})"


def nothing_to_learn(dataset: Dataset, task_type: TaskType) -> str:
    """Why the task type cannot be trained on the dataset, as a sentence; empty where it can."""
    if learnable_sets(dataset, task_type):
        return ""
    if annotation_sets_for(dataset, task_type):
        return f"No image of “{dataset.name}” shows any of its classes: there is nothing to learn for {task_type.title.lower()}."
    kinds = ", ".join(sorted({one.kind for one in dataset.annotation_sets})) or "no annotations"
    return f"“{dataset.name}” has no annotations for {task_type.title.lower()} (it has {kinds})."


def task_types(dataset: Dataset) -> list[TaskType]:
    """The task types that the dataset can be used for, in their order."""
    return [task_type for task_type in TaskType if learnable_sets(dataset, task_type)]


def findings_of(session: Session, dataset_id: str, *, limit: int | None = None) -> list[DatasetFinding]:
    """What the import noticed, in that order."""
    return list(
        session.scalars(select(DatasetFinding).where(DatasetFinding.dataset_id == dataset_id).order_by(DatasetFinding.id).limit(limit))
    )


def count_findings(session: Session, dataset_id: str) -> dict[tuple[str, str], int]:
    """How many findings of each code and severity are listed."""
    query = (
        select(DatasetFinding.code, DatasetFinding.severity, func.count())
        .where(DatasetFinding.dataset_id == dataset_id)
        .group_by(DatasetFinding.code, DatasetFinding.severity)
    )
    return {(code, severity): count for code, severity, count in session.execute(query)}


def findings_by_dataset(session: Session, dataset_ids: Sequence[str]) -> dict[str, list[DatasetFinding]]:
    """What the imports of several datasets noticed, by dataset id."""
    found: dict[str, list[DatasetFinding]] = {}
    for start in range(0, len(dataset_ids), 500):
        query = select(DatasetFinding).where(DatasetFinding.dataset_id.in_(dataset_ids[start : start + 500])).order_by(DatasetFinding.id)
        for finding in session.scalars(query):
            found.setdefault(finding.dataset_id, []).append(finding)
    return found


def rename_dataset(database: Database, actor: Actor, name_or_id: str, new_name: str) -> Dataset:
    """Give a dataset another name.

    Raises:
        NotFoundError, NotAllowedError: as they say.
        ConflictError: when the name is taken, or tasks use the dataset.
        InvalidInputError: for a name that cannot be.
    """
    new_name = clean_name(new_name, "dataset")
    try:
        with database.write() as session:
            dataset = find_dataset(session, actor.workspace, name_or_id)
            require_owner(actor, dataset.created_by, f"the dataset “{dataset.name}”")
            if dataset.name == new_name:
                return dataset
            _refuse_used(session, dataset, "renamed")
            dataset.name = new_name
            session.flush()
            return dataset
    except IntegrityError as error:
        raise ConflictError(f"There is a dataset “{new_name}” already.", "Choose another name.") from error


def delete_dataset(database: Database, storage: Storage, actor: Actor, name_or_id: str) -> None:
    """Delete a dataset with its images. Faces ask to type DELETE before they call this.

    Raises:
        NotFoundError, NotAllowedError: as they say.
        ConflictError: when tasks use it, naming them.
    """
    try:
        with database.write() as session:
            dataset = find_dataset(session, actor.workspace, name_or_id)
            require_owner(actor, dataset.created_by, f"the dataset “{dataset.name}”")
            _refuse_used(session, dataset, "deleted")
            dataset_id, name = dataset.id, dataset.name
            session.execute(delete(Dataset).where(Dataset.id == dataset_id))
    except IntegrityError as error:  # a task was created in between
        raise ConflictError(
            f"The dataset “{name}” cannot be deleted: a task has just begun to use it.", "Delete the task first."
        ) from error
    # Rows first: objects without rows are swept, rows without objects would be a broken dataset.
    storage.delete(f"datasets/{dataset_id}")


def _refuse_used(session: Session, dataset: Dataset, what: str) -> None:
    names = session.scalars(select(Task.name).where(Task.dataset_id == dataset.id).order_by(Task.created_at).limit(6)).all()
    if not names:
        return
    shown = ", ".join(f"“{name}”" for name in names[:5]) + (" and more" if len(names) > 5 else "")
    tasks = "the task" if len(names) == 1 else "the tasks"
    raise ConflictError(f"The dataset “{dataset.name}” cannot be {what} while it is used by {tasks} {shown}.", "Delete those tasks first.")
