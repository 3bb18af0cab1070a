"""Which of our conversations a thread holds: asked when somebody sends a file or speaks there."""

from datetime import UTC, datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.access import Place
from core.db.tables import Draft, LightJob, Task


def models_task(session: Session, workspace: str, place: Place) -> Task | None:
    """The newest task of a thread that has left a model."""
    return session.scalar(
        select(Task)
        .where(
            Task.workspace == workspace,
            Task.created_at >= _began(place.thread),  # a thread is older than what goes on in it; this uses the index
            Task.place["channel"].as_string() == place.channel,
            Task.place["thread"].as_string() == place.thread,
            Task.model_id.is_not(None),
        )
        .order_by(Task.created_at.desc())
        .limit(1)
    )


def is_ours(session: Session, workspace: str, place: Place) -> bool:
    """Whether a conversation, a task or an import of ours lives in that thread."""
    for table in (Draft, Task, LightJob):
        found = session.scalar(
            select(table.id)
            .where(
                table.workspace == workspace,
                table.created_at >= _began(place.thread),
                table.place["channel"].as_string() == place.channel,
                table.place["thread"].as_string() == place.thread,
            )
            .limit(1)
        )
        if found is not None:
            return True
    return False


def _began(thread: str) -> datetime:
    try:
        return datetime.fromtimestamp(float(thread) - 60, UTC)
    except (ValueError, OverflowError, OSError):
        return datetime(1970, 1, 1, tzinfo=UTC)
