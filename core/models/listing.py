"""Find, list, rename and delete models."""

import json
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core.access import Actor, require_owner
from core.db.session import Database
from core.db.tables import Model, Task
from core.errors import ConflictError, NotFoundError, UnavailableError
from core.names import SHOWN_NAMESAKES, clean_name, first_of, refuse_namesakes
from core.storage import Storage
from core.tasks.states import State

DELETED = "a deleted model"
REPORT_FILE = "training_report.pdf"  # in the model's folder


def find_model(session: Session, workspace: str, name_or_id: str, *, only: bool = False) -> Model:
    """The model of that id, or the newest of that name.

    Raises:
        NotFoundError: naming the closest ones.
        InvalidInputError: when there must be one `only` of that name, and there are several.
    """
    model = session.scalar(select(Model).where(Model.workspace == workspace, Model.id == name_or_id))
    if model is None:
        named = select(Model).where(Model.workspace == workspace, Model.name == name_or_id).order_by(Model.created_at.desc())
        found = session.scalars(named.limit(SHOWN_NAMESAKES)).all()
        if only:
            refuse_namesakes("models", name_or_id, [one.id for one in found])
        model = found[0] if found else None
    if model is None:
        newest = session.scalars(select(Model.name).where(Model.workspace == workspace).order_by(Model.created_at.desc()).limit(500)).all()
        near = get_close_matches(name_or_id, newest, n=3)
        remedy = f"Did you mean {' or '.join(near)}?" if near else "`stationmaster model list` shows all there are."
        raise NotFoundError(f"There is no model “{name_or_id[:100]}”.", remedy)
    return model


def card_of(storage: Storage, model: Model) -> dict[str, Any]:
    """What the model's card tells; nothing where its files are gone, damaged, or out of reach."""
    try:
        card = json.loads(storage.read(f"{model.key}/model_card.json"))
    except (OSError, ValueError, UnavailableError):
        return {}
    return card if isinstance(card, dict) else {}


def report_key(database: Database, storage: Storage, task: Task) -> str:
    """Where the training report of a task lies in the storage.

    Raises:
        ConflictError: while the task has left no model, or where it never will.
        NotFoundError: when there is none beside its model.
    """
    with database.read() as session:
        model = session.get(Model, task.model_id) if task.model_id else None
    if model is None:
        remedy = "It has ended without one." if State(task.state).ended else "Wait until the training has finished."
        raise ConflictError(f"“{task.name}” has no training report: it comes with the model.", remedy)
    key = f"{model.key}/{REPORT_FILE}"
    if not storage.exists(key):
        what = f"“{task.name}” has no training report: it could not be drawn at the end of the training, or was deleted from the storage."
        raise NotFoundError(what, "The worker's log says why one could not be drawn. The model can be used all the same.")
    return key


def list_models(session: Session, workspace: str, *, search: str = "", offset: int = 0, limit: int = 50) -> tuple[list[Model], int]:
    """Models whose name holds `search`, newest first, and how many there are in all."""
    condition = [Model.workspace == workspace]
    if search.strip():
        condition.append(Model.name_holds(search))
    rows = list(session.scalars(select(Model).where(*condition).order_by(Model.created_at.desc(), Model.id).offset(offset).limit(limit)))
    if not offset and len(rows) < limit:
        return rows, len(rows)  # a search goes over all names: not twice where once will do
    return rows, session.scalar(select(func.count()).select_from(Model).where(*condition)) or 0


def class_changes(before: Sequence[str], after: Sequence[str]) -> str:
    """What becomes of a model's classes when it learns on from other annotations; empty where they stay as they are."""
    if list(before) == list(after):
        return ""
    kept = [name for name in after if name in set(before)]
    new = [name for name in after if name not in set(before)]
    gone = [name for name in before if name not in set(after)]
    parts = [f"{len(kept)} of the model's {len(before)} classes are kept with what was learnt of them"]
    if new:
        parts.append(f"new: {first_of(new, 10)}")
    if gone:
        parts.append(f"dropped: {first_of(gone, 10)}")
    return "; ".join(parts) + "."


def rename_model(session: Session, actor: Actor, model: Model, name: str) -> None:
    """Give a model another name.

    Raises:
        InvalidInputError: for an empty or over-long name.
        NotAllowedError: for anybody but its creator and admins.
    """
    require_owner(actor, model.created_by, f"the model “{model.name}”")
    model.name = clean_name(name, "model")


def delete_model(session: Session, storage: Storage, actor: Actor, model: Model) -> None:
    """Delete a model and its files. Its task stays, without a model.

    Raises:
        NotAllowedError: for anybody but its creator and admins.
        ConflictError: while a task that has not ended is retraining it.
    """
    require_owner(actor, model.created_by, f"the model “{model.name}”")
    using = session.scalars(
        select(Task.name).where(
            Task.workspace == model.workspace, Task.source_model_id == model.id, Task.state.in_(("waiting", "running", "stopping"))
        )
    ).all()
    if using:
        raise ConflictError(f"“{model.name}” is being retrained by {', '.join(using)}.", "Wait for it to end, or stop it first.")
    for task in session.scalars(select(Task).where(Task.model_id == model.id)):
        task.model_id = None
    session.delete(model)
    session.flush()
    storage.delete(model.key)


def names_of(session: Session, ids: Iterable[str | None]) -> dict[str | None, str]:
    """Names of models by their ids, such as of those that others were retrained from; what is gone is `a deleted model`."""
    asked = {one for one in ids if one}
    found = session.execute(select(Model.id, Model.name).where(Model.id.in_(asked))) if asked else ()
    return dict.fromkeys(asked, DELETED) | {row.id: row.name for row in found}


def models_json(session: Session, models: Sequence[Model]) -> list[dict[str, Any]]:
    """Models as commands print them; `parent` is the name of the model that one was retrained from."""
    parents = names_of(session, (model.parent_id for model in models))
    return [_facts(model, parents.get(model.parent_id)) for model in models]


def _facts(model: Model, parent: str | None) -> dict[str, Any]:
    return {
        "id": model.id,
        "name": model.name,
        "task_id": model.task_id,
        "parent_id": model.parent_id,
        "parent": parent,
        "task_type": model.task_type,
        "network": model.network,
        "pretraining": model.pretraining,
        "classes": list(model.classes),
        "metrics": dict(model.metrics),
        "bytes": model.bytes,
        "created_by": model.created_by,
        "created_at": model.created_at.isoformat(),
    }
