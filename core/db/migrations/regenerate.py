"""Write the initial migration anew from the tables: `python -m core.db.migrations.regenerate`.

Only while nothing is released. After that every change of the tables is a migration of its own, numbered on.
"""

from alembic import command
from alembic.config import Config

from core.db.migrate import SCRIPTS, config_for
from core.db.session import Database

INITIAL = "0001"


def regenerate() -> None:
    """Replace `versions/0001_initial.py` by what an empty database lacks."""
    target = SCRIPTS / "versions" / f"{INITIAL}_initial.py"
    # Written beside and moved, so that programs running meanwhile never see an installation without migrations.
    before = target.read_text() if target.exists() else ""
    target.unlink(missing_ok=True)
    try:
        with Database("sqlite://").write() as session:
            config: Config = config_for(session.connection())
            config.set_main_option("file_template", "%%(rev)s_%%(slug)s")
            command.revision(config, message="initial", rev_id=INITIAL, autogenerate=True)
    finally:
        if before and not target.exists():
            target.write_text(before)


if __name__ == "__main__":
    regenerate()
