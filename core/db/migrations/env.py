"""What Alembic runs to migrate: always over the connection that `core.db.migrate` hands in, within its transaction."""

from alembic import context

from core.db.migrate import migration_options

context.configure(connection=context.config.attributes["connection"], **migration_options())
context.run_migrations()
