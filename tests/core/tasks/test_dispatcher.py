"""From the outbox to a real queue, on SQLite and Postgres."""

from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis
from rq import Queue, Worker
from rq.job import Job as QueueEntry
from rq.serializers import JSONSerializer
from sqlalchemy import func, select

from core.access import Actor
from core.db.session import Database
from core.db.tables import Job, Outbox, Task
from core.errors import UnavailableError
from core.queue import Pokes, alive, connect, enqueue, exchange, poke, queue_length, rq_job_id, rq_name
from core.settings import Settings
from core.tasks import dispatcher
from core.tasks.dispatcher import dispatch, nudge
from core.tasks.lifecycle import claim_job, finish_job, hand_back, stop_task
from core.tasks.reconcile import reconcile

MakeTask = Callable[..., Task]


@pytest.fixture
def dispatched(database: Database, redis: Redis, queue_settings: Settings) -> Callable[[], list[str]]:
    """Dispatch, and name the tasks of the queue's jobs in their order."""

    def names() -> list[str]:
        dispatch(database, redis, queue_settings)
        with database.read() as session:
            owners = {job.id: session.get_one(Task, job.task_id).name for job in session.scalars(select(Job))}
        return [owners[job_id] for job_id, _ in alive(redis, queue_settings, "gpu").queued]

    return names


@pytest.fixture
def take(database: Database, redis: Redis, queue_settings: Settings) -> Callable[[], None]:
    """A worker takes the first job of the queue."""

    def first() -> None:
        queue = Queue(rq_name(queue_settings, "gpu"), connection=redis, serializer=JSONSerializer)
        entry = queue.pop_job_id()
        assert entry is not None
        job_id, _, generation = entry.rpartition("-g")
        with database.write() as session:
            assert claim_job(session, job_id, int(generation), worker="w", device="CPU") is not None

    return first


@pytest.fixture
def workers(redis: Redis, queue_settings: Settings) -> list[Worker]:
    """Three that have nothing to do."""
    workers = [Worker([rq_name(queue_settings, "gpu")], connection=redis, serializer=JSONSerializer) for _ in range(3)]
    for worker in workers:
        worker.register_birth()
    return workers


def outbox_rows(database: Database) -> int:
    with database.read() as session:
        return session.scalar(select(func.count()).select_from(Outbox)) or 0


def test_only_one_ahead(database: Database, make_task: MakeTask, dispatched: Any, take: Any) -> None:
    make_task(10, name="a")
    assert dispatched() == ["a"]
    assert outbox_rows(database) == 9
    assert dispatched() == ["a"], "nothing more while it waits"
    take()
    assert dispatched() == ["a"]
    assert outbox_rows(database) == 8


def test_one_ahead_for_each_worker(make_task: MakeTask, dispatched: Any, workers: list[Worker]) -> None:
    make_task(10, name="a")
    assert dispatched() == ["a"] * 3
    workers[0].register_death()
    make_task(1, name="b", person="terminal:grace")
    assert dispatched() == ["a"] * 3, "what is queued stays"


def test_people_and_tasks_take_turns(make_task: MakeTask, dispatched: Any, take: Any) -> None:
    make_task(48, name="a")
    make_task(48, name="b")
    assert dispatched() == ["a"]
    make_task(1, name="c", person="terminal:grace")
    take()
    assert dispatched() == ["c"], "the next turn is a newcomer's"
    make_task(1, name="d", person="terminal:mary")
    take()
    assert dispatched() == ["d"]
    take()
    assert dispatched() == ["b"]


def test_turns_are_remembered_between_rounds(database: Database, make_task: MakeTask, dispatched: Any, take: Any) -> None:
    """On one worker each round has room for one job: the longest waiting person gets it, not always the first."""
    make_task(6, name="a")
    make_task(6, name="b", person="terminal:grace")
    make_task(6, name="c", person="terminal:mary")
    dispatched()
    order = []
    for _ in range(9):
        order.append(dispatched()[0])
        take()
        with database.write() as session:  # what runs ends at once
            for job in session.scalars(select(Job).where(Job.state == "running")):
                job.state = "finished"
    assert order == ["a", "b", "c"] * 3


def test_the_queue_holds_no_more_than_names(make_task: MakeTask, dispatched: Any, redis: Redis, queue_settings: Settings) -> None:
    """JSON, never pickle; no time limit; the entry point by name."""
    make_task()
    dispatched()
    job_id, generation = alive(redis, queue_settings, "gpu").queued[0]
    entry = QueueEntry.fetch(rq_job_id(job_id, generation), connection=redis, serializer=JSONSerializer)
    assert entry.func_name == "worker.jobs.run_training"
    assert list(entry.args) == [job_id, generation]
    assert entry.timeout == -1


def test_a_crash_between_queue_and_database_does_no_harm(
    database: Database, make_task: MakeTask, dispatched: Any, redis: Redis, queue_settings: Settings, workers: list[Worker]
) -> None:
    task = make_task()
    with database.read() as session:
        job = session.scalars(select(Job).where(Job.task_id == task.id)).one()
    assert enqueue(redis, queue_settings, "gpu", job.id, job.generation)  # and then the dispatcher died
    assert len(dispatched()) == 1
    assert outbox_rows(database) == 0


def test_what_was_stopped_is_not_dispatched(
    database: Database, make_task: MakeTask, dispatched: Any, ada: Actor, redis: Redis, queue_settings: Settings
) -> None:
    for number in range(5):
        task = make_task(name=f"stopped {number}")
        with database.write() as session:
            stop_task(session, ada, session.get_one(Task, task.id), "keep")
    make_task(name="wanted")
    assert dispatched() == ["wanted"]


def test_old_rows_are_cleared_away(database: Database, make_task: MakeTask, dispatched: Any, workers: list[Worker]) -> None:
    task = make_task(5, name="old")
    with database.write() as session:
        for job in session.scalars(select(Job).where(Job.task_id == task.id)):
            job.generation = 2
    make_task(name="new")
    assert dispatched() == ["new"]
    assert outbox_rows(database) == 0


def test_without_a_queue_all_stays_in_the_outbox(database: Database, settings: Settings, make_task: MakeTask) -> None:
    make_task()
    assert not nudge(database, settings)
    assert outbox_rows(database) == 1
    with pytest.raises(UnavailableError, match="queue does not run"):
        connect(settings)


def test_nudge(database: Database, redis: Redis, queue_settings: Settings, make_task: MakeTask) -> None:
    make_task()
    assert nudge(database, queue_settings)
    assert queue_length(redis, queue_settings, "gpu") == 1


def test_pokes_are_heard_at_once(redis: Redis, queue_settings: Settings) -> None:
    pokes = Pokes(connect(queue_settings), queue_settings)
    assert pokes.wait(0.3) == set()
    poke(redis, queue_settings, "task x")
    poke(redis, queue_settings)
    heard = pokes.wait(5) | pokes.wait(0.3)
    assert heard == {"task x", "work"}
    pokes.close()


def test_a_task_of_48_jobs_shuts_out_nobody(
    database: Database, make_task: MakeTask, dispatched: Any, redis: Redis, queue_settings: Settings
) -> None:
    """Tasks of one job come in while a large one, or a population whose members come back after each slice, keeps the one worker busy."""
    make_task(48, name="large")
    taken: list[str] = []

    def work() -> str:
        """The worker takes a job, and hands it back at the end of its slice or, being small, ends it."""
        dispatched()
        entry = Queue(rq_name(queue_settings, "gpu"), connection=redis, serializer=JSONSerializer).pop_job_id()
        job_id, _, generation = str(entry).rpartition("-g")
        with database.write() as session:
            assert claim_job(session, job_id, int(generation), worker="w", device="CPU") is not None
            name = session.get_one(Task, session.get_one(Job, job_id).task_id).name
        dispatched()  # as its worker asks for, with the job in hand
        with database.write() as session:
            if name == "large":
                hand_back(session, job_id, int(generation), between_slices=True)
            else:
                finish_job(session, job_id, int(generation), score=None, metrics={})
        taken.append(name)
        return name

    for _ in range(5):
        work()
    make_task(1, name="somebody's", person="terminal:grace")
    make_task(1, name="own")
    for _ in range(6):
        work()
    assert taken[5] == "large", "it was queued already"
    assert taken[6:8] == ["somebody's", "own"], "then each of the small ones has its turn"
    assert taken.count("large") == 9


def interrupt(database: Database, *names: str) -> None:
    """The workers of what runs, or of these tasks of it, hand it back."""
    with database.write() as session:
        for job in session.scalars(select(Job).where(Job.state == "running")):
            if not names or session.get_one(Task, job.task_id).name in names:
                hand_back(session, job.id, job.generation)


def test_what_was_interrupted_goes_on_before_younger_tasks_of_the_same_person(
    database: Database, make_task: MakeTask, dispatched: Any, take: Any
) -> None:
    for name in "abcd":
        make_task(1, name=name)
    dispatched()
    take()
    assert dispatched() == ["b"]
    interrupt(database)
    assert dispatched() == ["a"], "in the place of the younger one"
    for name in "bcd":
        take()
        assert dispatched() == [name], "that one is again before those which are younger still"
    take()
    assert dispatched() == []


def test_of_many_interrupted_tasks_a_newcomer_waits_for_no_more_than_is_queued(
    database: Database, make_task: MakeTask, dispatched: Any, take: Any
) -> None:
    for name in "abcd":
        make_task(1, name=name)
    for _ in "abc":
        dispatched()
        take()
    assert dispatched() == ["d"]
    interrupt(database)
    assert dispatched() == ["a"]
    make_task(1, name="e", person="terminal:grace")
    for name in "ebcd":
        take()
        assert dispatched() == [name], "her turn before ada's second"


def test_a_restart_of_all_workers_costs_nobody_their_place(
    database: Database, make_task: MakeTask, dispatched: Any, take: Any, workers: list[Worker]
) -> None:
    """While they are away there is none to be counted; and their jobs come back in any order."""
    for name in ("a1", "a2", "a3"):
        make_task(1, name=name)
        dispatched()
        take()
    for name in ("b1", "b2"):
        make_task(1, name=name)
    make_task(1, name="g", person="terminal:grace")
    assert sorted(dispatched()) == ["b1", "b2", "g"]
    before = dispatched().index("g")
    for worker in workers:
        worker.register_death()
    for name in ("a3", "a1", "a2"):
        interrupt(database, name)
        dispatched()
    order = dispatched()
    assert [name for name in order if name != "g"] == ["a1", "a2"], "the oldest first"
    assert order.index("g") <= before + 1
    for worker in workers:
        worker.register_birth()
    order = []
    for _ in range(6):
        order.append(dispatched()[0])
        take()
    assert [name for name in order if name != "g"] == ["a1", "a2", "a3", "b1", "b2"]


@pytest.fixture
def a_interrupted_before_b(database: Database, make_task: MakeTask, dispatched: Any, take: Any) -> None:
    """Of one person the task a has begun and was interrupted, the younger b is queued."""
    for name in "ab":
        make_task(1, name=name)
    dispatched()
    take()
    assert dispatched() == ["b"]
    interrupt(database)


def test_a_crash_while_tasks_change_places_loses_none(
    database: Database,
    a_interrupted_before_b: None,
    dispatched: Any,
    take: Any,
    redis: Redis,
    queue_settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(dispatcher, "_give_back", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            dispatch(database, redis, queue_settings)
    assert dispatched() == ["a"], "b is in neither"
    reconcile(database, redis, queue_settings)
    assert dispatched() == ["a"]
    take()
    assert dispatched() == ["b"]


def test_a_crash_before_the_places_are_changed_costs_no_place(
    database: Database,
    a_interrupted_before_b: None,
    dispatched: Any,
    take: Any,
    redis: Redis,
    queue_settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(dispatcher, "exchange", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            dispatch(database, redis, queue_settings)
    assert dispatched() == ["a"], "and the queue is no longer than it was"
    take()
    assert dispatched() == ["b"]


def test_what_a_worker_takes_meanwhile_is_not_queued_again(
    database: Database,
    a_interrupted_before_b: None,
    dispatched: Any,
    take: Any,
    redis: Redis,
    queue_settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:

    def late(*arguments: Any) -> bool:
        """A worker has the younger one in hand, and has not claimed it yet."""
        assert Queue(rq_name(queue_settings, "gpu"), connection=redis, serializer=JSONSerializer).pop_job_id()
        return exchange(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(dispatcher, "exchange", late)
        assert dispatched() == ["a"]
    assert outbox_rows(database) == 0
    take()
    assert dispatched() == []


def test_an_interruption_does_not_delay_whoever_is_in_the_queue_already(
    database: Database, make_task: MakeTask, dispatched: Any, take: Any
) -> None:
    for name in "ab":
        make_task(1, name=name)
    dispatched()
    make_task(1, name="c", person="terminal:grace")
    take()
    assert dispatched() == ["c"]
    interrupt(database)
    assert dispatched() == ["c"]
    take()
    assert dispatched() == ["a"], "before the same person's younger task"


def test_between_slices_a_population_takes_turns_as_ever(database: Database, make_task: MakeTask, dispatched: Any, take: Any) -> None:
    make_task(3, name="a")
    make_task(1, name="b")
    dispatched()
    take()
    assert dispatched() == ["b"]
    with database.write() as session:
        job = session.scalars(select(Job).where(Job.state == "running")).one()
        hand_back(session, job.id, job.generation, between_slices=True)
    assert dispatched() == ["b"]
