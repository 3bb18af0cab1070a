"""A lease in the database: of all processes, one at a time does a periodic duty."""

from datetime import timedelta

from sqlalchemy import delete, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from core.clock import now
from core.db.session import Database
from core.db.tables import Lease
from core.process_identity import is_provably_dead


def acquire(database: Database, name: str, holder: str, seconds: float) -> bool:
    """Take or renew the lease for so long; False while somebody else, not known to be dead, holds it.

    `holder` begins with the process' identity (`core.process_identity`), and may go on after a space.

    Raises:
        UnavailableError: when the database is away.
    """
    moment = now()
    until = moment + timedelta(seconds=seconds)
    with database.read() as session:
        present = session.execute(select(Lease.holder, Lease.expires_at).where(Lease.name == name)).one_or_none()
    if (
        present is not None
        and present.holder != holder
        and present.expires_at > moment
        and not is_provably_dead(present.holder.split(" ")[0])
    ):
        return False
    with database.write() as session:
        if present is None:
            insert = (sqlite if database.is_sqlite else postgresql).insert(Lease)
            statement = insert.values(name=name, holder=holder, expires_at=until).on_conflict_do_nothing().returning(Lease.name)
        else:
            # As it was read: whoever else saw the same finds it changed.
            mine = or_(Lease.holder == holder, (Lease.holder == present.holder) & (Lease.expires_at == present.expires_at))
            statement = update(Lease).where(Lease.name == name, mine).values(holder=holder, expires_at=until).returning(Lease.name)
        return session.execute(statement, execution_options={"synchronize_session": False}).first() is not None


def release(database: Database, name: str, holder: str) -> None:
    """Give the lease back, so that another need not wait for its end."""
    with database.write() as session:
        given = delete(Lease).where(Lease.name == name, Lease.holder == holder)
        session.execute(given, execution_options={"synchronize_session": False})
