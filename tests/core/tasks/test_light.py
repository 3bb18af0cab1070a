"""Light jobs between the one who asks and the one who works."""

import threading
from collections.abc import Callable

import pytest

from core.db.session import Database
from core.db.tables import LightJob
from core.errors import StationmasterError, UnavailableError
from core.tasks.journal import FencedError
from core.tasks.light import claim_light_job, fail_light_job, finish_light_job, heartbeat_light_job, submit_light_job, wait_light_job


@pytest.fixture
def submit(database: Database) -> Callable[[], LightJob]:
    def one() -> LightJob:
        with database.write() as session:
            return submit_light_job(session, workspace="default", person="p", kind="predict", payload={"x": 1})

    return one


def test_asked_worked_answered(database: Database, submit: Callable[[], LightJob]) -> None:
    job = submit()

    def work() -> None:
        with database.write() as session:
            claim = claim_light_job(session, job.id, 1, worker="w")
            assert claim is not None
            assert (claim.kind, claim.payload) == ("predict", {"x": 1})
        with database.write() as session:
            heartbeat_light_job(session, job.id, 1, {"done": 1})
        with database.write() as session:
            finish_light_job(session, job.id, 1, {"labels": []})

    timer = threading.Timer(0.3, work)
    timer.start()
    assert wait_light_job(database, job.id, seconds=20) == {"labels": []}
    timer.join()


def test_failure_comes_back_in_its_own_words(database: Database, submit: Callable[[], LightJob]) -> None:
    job = submit()
    with database.write() as session:
        claim_light_job(session, job.id, 1, worker="w")
        fail_light_job(session, job.id, 1, "That is no image.", "Give a PNG.")
    with pytest.raises(StationmasterError) as caught:
        wait_light_job(database, job.id, seconds=5)
    assert (caught.value.what, caught.value.remedy) == ("That is no image.", "Give a PNG.")


def test_nobody_takes_it(database: Database, submit: Callable[[], LightJob]) -> None:
    with pytest.raises(UnavailableError, match="No light worker"):
        wait_light_job(database, submit().id, seconds=5, start_within=0.2)


def test_fenced(database: Database, submit: Callable[[], LightJob]) -> None:
    job = submit()
    with database.write() as session:
        assert claim_light_job(session, job.id, 1, worker="w") is not None
        assert claim_light_job(session, job.id, 1, worker="w") is None
    with database.write() as session:
        finish_light_job(session, job.id, 1, {})
    with pytest.raises(FencedError), database.write() as session:
        finish_light_job(session, job.id, 1, {"again": True})
    with pytest.raises(FencedError), database.write() as session:
        heartbeat_light_job(session, job.id, 1)
