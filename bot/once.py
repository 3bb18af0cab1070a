"""What a chat delivers twice is done once: requests that have been taken, by key, in the database that all bots share."""

import hashlib
import json
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.dialects import postgresql, sqlite

from core.clock import now
from core.db.session import Database
from core.db.tables import TakenRequest
from core.settings import Settings
from core.tasks.duties import CHORES, Chore

REMEMBER = timedelta(days=1)


def take(database: Database, key: str) -> datetime | None:
    """Take a request; None for whoever is first, else when it was taken before."""
    moment = now()
    insert = (sqlite.insert if database.is_sqlite else postgresql.insert)(TakenRequest)
    with database.write() as session:
        taken = session.execute(insert.values(key=key, taken_at=moment).on_conflict_do_nothing().returning(TakenRequest.key)).first()
        if taken is not None:
            return None
        return session.scalar(select(TakenRequest.taken_at).where(TakenRequest.key == key)) or moment


def release(database: Database, key: str) -> None:
    """Let a request be taken again: it could not be done."""
    with database.write() as session:
        session.execute(delete(TakenRequest).where(TakenRequest.key == key))


def key_of(*parts: Any) -> str:
    """A short key for what a request consists of."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:40]


def forget_old(database: Database, settings: Settings) -> int:
    """Forget requests that no chat delivers again any more; returns how many."""
    with database.write() as session:
        result = session.execute(delete(TakenRequest).where(TakenRequest.taken_at < now() - REMEMBER))
        return int(getattr(result, "rowcount", 0))


CHORES.append(Chore("forget taken requests", 3600, forget_old))
