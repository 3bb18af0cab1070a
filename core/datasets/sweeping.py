"""Taking away what killed imports and deletions have left: invisible rows, and objects that belong to no row."""

import logging
import shutil
from datetime import datetime, timedelta
from pathlib import PurePosixPath
from typing import Any

from sqlalchemy import delete, select, update

from core.clock import now
from core.datasets.sources import scratch
from core.db.session import Database
from core.db.tables import Dataset, LightJob
from core.process_identity import is_provably_dead, own_identity
from core.settings import Settings
from core.storage import Storage

logger = logging.getLogger(__name__)

# An import says after each batch that it lives. On its own host a dead process is known at once; elsewhere by this silence.
_SILENCE = timedelta(minutes=30)


def sign_of_life() -> dict[str, Any]:
    """Who imports, and when that was last said."""
    return {"process": own_identity(), "at": now().isoformat()}


def _is_dead(sign: dict[str, Any]) -> bool:
    if is_provably_dead(str(sign.get("process", ""))):
        return True
    at = datetime.fromisoformat(sign["at"]) if sign.get("at") else None
    return at is None or now() - at > _SILENCE


def sweep(database: Database, storage: Storage, settings: Settings) -> int:
    """Take away what belongs to no living import and no visible dataset; how many leftovers there were."""
    folders = _folders(storage, "datasets")  # before the rows: an import adds its row first, so what begins now is safe
    # Nobody has said in all this time whether to keep or to drop it.
    old = now() - timedelta(days=settings.draft_days)
    with database.write() as session:
        session.execute(update(Dataset).where(Dataset.state == "held", Dataset.created_at < old).values(state="deleting"))
    with database.read() as session:
        unfinished = session.execute(
            select(Dataset.id, Dataset.state, Dataset.statistics).where(Dataset.state.in_(("importing", "deleting")))
        ).all()
        known = set(session.scalars(select(Dataset.id)))
    leftovers = [
        dataset_id for dataset_id, state, statistics in unfinished if state == "deleting" or _is_dead(statistics.get("import", {}))
    ]
    leftovers += [folder for folder in folders if folder not in known]
    for dataset_id in leftovers:
        logger.info("removing the leftovers of dataset %s", dataset_id)
        remove(database, storage, dataset_id)
    return len(leftovers) + _sweep_uploads(database, storage) + _sweep_scratch(settings)


def _sweep_uploads(database: Database, storage: Storage) -> int:
    """Take away uploads that no job waits for any more: the bot ended before it had queued one, or the job did before it had tidied up."""
    with database.read() as session:
        payloads = session.scalars(select(LightJob.payload).where(LightJob.state.in_(("waiting", "running")))).all()
    wanted = {PurePosixPath(str(payload.get("upload_key", ""))).parent.name for payload in payloads}
    swept = 0
    for folder in _folders(storage, "uploads"):
        keys = storage.list(f"uploads/{folder}")
        # An upload is stored before its job is queued: one that is still growing, or has just ended, is none of ours.
        if folder not in wanted and all(storage.age(key) > _SILENCE for key in keys):
            storage.delete(f"uploads/{folder}")
            swept += 1
    return swept


def _sweep_scratch(settings: Settings) -> int:
    """Take away what dead imports of this host had unpacked or fetched."""
    leftovers = scratch.leftovers(settings)
    for folder in leftovers:
        shutil.rmtree(folder, ignore_errors=True)
    return len(leftovers)


def _folders(storage: Storage, prefix: str) -> list[str]:
    local = storage.local_path(prefix)
    if local is not None:
        return [entry.name for entry in local.iterdir() if entry.is_dir()] if local.is_dir() else []
    root = f"{storage.root}/{prefix}"
    if not storage.filesystem.exists(root):
        return []
    return [PurePosixPath(path).name for path in storage.filesystem.ls(root, detail=False)]


def remove(database: Database, storage: Storage, dataset_id: str) -> None:
    """Remove all rows and objects of a dataset that nobody sees.

    Objects first: on a full disk the database may write again only once they are gone.
    """
    storage.delete(f"datasets/{dataset_id}")
    with database.write() as session:
        session.execute(delete(Dataset).where(Dataset.id == dataset_id))
