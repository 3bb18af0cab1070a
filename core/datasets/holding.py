"""Imports that left something out and wait, unseen, for a person to say: keep the good part, or drop all."""

from sqlalchemy import delete, select
from sqlalchemy.orm import Session, selectinload

from core.access import Actor, require_owner
from core.db.session import Database
from core.db.tables import Dataset
from core.errors import ConflictError, NotFoundError
from core.storage import Storage


def find_imported(session: Session, workspace: str, dataset_id: str) -> Dataset:
    """What an import has made, whether it is held or kept.

    Raises:
        NotFoundError: when it was dropped, deleted, or never was.
    """
    found = session.scalar(
        select(Dataset)
        .where(Dataset.id == dataset_id, Dataset.workspace == workspace, Dataset.state.in_(("held", "ready")))
        .options(selectinload(Dataset.annotation_sets))
    )
    if found is None:
        raise NotFoundError("That import is no longer there.", "Import the source again.")
    return found


def keep_dataset(database: Database, actor: Actor, dataset_id: str) -> Dataset:
    """Let a held dataset be seen, with what could be used of it. Kept already: nothing changes.

    Raises:
        NotFoundError: when it was dropped, or never was.
        NotAllowedError: for anybody but who imported it, and admins.
    """
    with database.write() as session:
        dataset = find_imported(session, actor.workspace, dataset_id)
        if dataset.state == "held":
            require_owner(actor, dataset.created_by, f"the import “{dataset.name}”")
            dataset.state = "ready"
        return dataset


def drop_dataset(database: Database, storage: Storage, actor: Actor, dataset_id: str) -> str:
    """Remove a held dataset with all it has, and return its name.

    Raises:
        NotFoundError: when it was dropped already, or never was.
        NotAllowedError: for anybody but who imported it, and admins.
        ConflictError: when it has been kept.
    """
    with database.write() as session:
        dataset = find_imported(session, actor.workspace, dataset_id)
        if dataset.state != "held":
            raise ConflictError(f"“{dataset.name}” has been kept already.", "Delete the dataset if nobody needs it.")
        require_owner(actor, dataset.created_by, f"the import “{dataset.name}”")
        name = dataset.name
        session.execute(delete(Dataset).where(Dataset.id == dataset_id))
    # Rows first: objects without rows are swept, rows without objects would be a broken dataset.
    storage.delete(f"datasets/{dataset_id}")
    return name
