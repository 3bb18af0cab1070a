"""What was typed into a dialog and not accepted: kept in the database for a day, so that it can be mended rather than typed again."""

from datetime import timedelta

from sqlalchemy import delete

from core.access import Actor
from core.clock import now
from core.db.session import Database
from core.db.tables import TypedForm
from core.errors import NotFoundError
from core.identifiers import new_id
from core.settings import Settings
from core.tasks.duties import CHORES, Chore

REMEMBER = timedelta(days=1)


def keep(database: Database, actor: Actor, action: str, values: dict[str, str]) -> str:
    """Keep what somebody typed; returns the id to bring it back by."""
    form = TypedForm(id=new_id(), workspace=actor.workspace, person=actor.person, action=action, values=values)
    with database.write() as session:
        session.add(form)
    return form.id


def bring(database: Database, actor: Actor, form_id: str) -> tuple[str, dict[str, str]]:
    """The form's action and what its own writer typed.

    Raises:
        NotFoundError: when it is not theirs, or was typed more than a day ago.
    """
    with database.read() as session:
        form = session.get(TypedForm, form_id)
    if form is None or (form.workspace, form.person) != (actor.workspace, actor.person):
        raise NotFoundError("What was typed here is no longer known.", "Open the dialog again and type it anew.")
    return form.action, {str(name): str(value) for name, value in form.values.items()}


def forget_old(database: Database, settings: Settings) -> int:
    """Forget what nobody has mended; returns how many forms."""
    with database.write() as session:
        result = session.execute(delete(TypedForm).where(TypedForm.created_at < now() - REMEMBER))
        return int(getattr(result, "rowcount", 0))


CHORES.append(Chore("forget typed forms", 3600, forget_old))
