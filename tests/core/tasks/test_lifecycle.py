"""The life of tasks and jobs, on SQLite and Postgres."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select

from core.access import Actor, Place
from core.db.session import Database
from core.db.tables import Delivery, Epoch, Event, Job, Model, Outbox, Task
from core.errors import ConflictError, InvalidInputError, NotAllowedError, NotFoundError
from core.events import Noticed, Progress
from core.settings import Settings
from core.storage import Storage
from core.tasks.creation import NewTask, create_task
from core.tasks.hyperparameters import TrainingPlan
from core.tasks.lifecycle import (
    Claim,
    Completion,
    FencedError,
    NewModel,
    asked,
    claim_job,
    complete_task,
    delete_task,
    fail_completion,
    fail_job,
    finish_job,
    hand_back,
    heartbeat,
    lose_job,
    record_epoch,
    record_event,
    remark,
    remove_task,
    rename_task,
    resume_ending,
    stop_job,
    stop_task,
)

MakeTask = Callable[..., Task]
JobsOf = Callable[[Task], list[Job]]


def progress(epoch: int, *, ended: bool = True) -> Progress:
    return Progress(
        epoch=epoch, epochs=5, step=1, steps=1, fraction=epoch / 5, loss=1, learning_rate=0.1, images_per_second=9, epoch_ended=ended
    )


class Worker:
    """What a worker does to the database, one transaction each."""

    def __init__(self, database: Database, settings: Settings, job: Job, generation: int | None = None) -> None:
        self.database, self.settings = database, settings
        self.holder = (job.id, generation or job.generation)

    def do(self, step: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        with self.database.write() as session:
            return step(session, *self.holder, *arguments, **named)

    def claim(self) -> Claim | None:
        claim: Claim | None = self.do(claim_job, worker="w", device="CPU")
        return claim

    def epoch(self, number: int, score: float, *, best: bool = True) -> bool:
        stored: bool = self.do(
            record_epoch,
            number,
            {"val_loss": 1.0},
            score=score,
            metrics={"accuracy": score},
            is_best=best,
            event=progress(number),
            sequence=number,
        )
        return stored

    def finish(self, score: float = 0.9) -> Completion | None:
        completion: Completion | None = self.do(finish_job, score=score, metrics={"accuracy": score})
        return completion

    def complete(self, key: str = "models/x") -> str | None:
        model_id: str | None = self.do(complete_task, NewModel(key, ["cat", "dog"], 10, {"curves": f"{key}/curves.png"}))
        return model_id

    def lose(self, reason: str = "gone", *, out_of_memory: bool = False) -> bool:
        with self.database.write() as session:
            return lose_job(session, self.settings, *self.holder, reason, out_of_memory=out_of_memory)


@pytest.fixture
def worker(database: Database, settings: Settings) -> Callable[..., Worker]:
    return lambda job, generation=None: Worker(database, settings, job, generation)


def reload(database: Database, task: Task) -> Task:
    with database.read() as session:
        return session.get_one(Task, task.id)


def events(database: Database, task: Task) -> list[Event]:
    with database.read() as session:
        return list(session.scalars(select(Event).where(Event.task_id == task.id).order_by(Event.number)))


def kinds(database: Database, task: Task) -> list[str]:
    found = events(database, task)
    assert [event.number for event in found] == list(range(1, len(found) + 1))
    return [event.kind for event in found]


def outbox(database: Database) -> list[tuple[str, int]]:
    with database.read() as session:
        return [(row.job_id, row.generation) for row in session.scalars(select(Outbox).order_by(Outbox.id))]


# ---------------------------------------------------------------- start


def test_start_makes_everything_at_once(database: Database, make_task: MakeTask, jobs_of: JobsOf, place: Place) -> None:
    task = make_task(3, place=place)
    jobs = jobs_of(task)
    assert [(job.number, job.state, job.generation, job.plan["seed"]) for job in jobs] == [
        (1, "waiting", 1, 0),
        (2, "waiting", 1, 1),
        (3, "waiting", 1, 2),
    ]
    assert outbox(database) == [(job.id, 1) for job in jobs]
    assert kinds(database, task) == ["created"]
    with database.read() as session:
        delivery = session.scalars(select(Delivery)).one()
    assert (delivery.task_id, delivery.face, delivery.place) == (task.id, "terminal", place.to_json())


def test_scripts_have_nobody_to_tell(database: Database, make_task: MakeTask) -> None:
    make_task()
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(Delivery)) == 0


def test_twice_pressed_is_once_started(database: Database, make_task: MakeTask) -> None:
    first, second = make_task(2, draft_id="d1"), make_task(2, draft_id="d1")
    assert first.id == second.id
    assert len(outbox(database)) == 2
    assert make_task(draft_id="d2").id != first.id


def test_a_start_that_fails_leaves_nothing(database: Database, settings: Settings, new_task: Callable[..., NewTask]) -> None:
    with pytest.raises(RuntimeError), database.write() as session:
        create_task(session, settings, new_task())
        raise RuntimeError("the power went")
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(Task)) == 0
    assert outbox(database) == []


def test_one_person_may_have_so_many_waiting(
    database: Database, settings: Settings, make_task: MakeTask, worker: Any, jobs_of: JobsOf
) -> None:
    tasks = [make_task(name=f"t{number}") for number in range(settings.max_waiting_tasks)]
    with pytest.raises(ConflictError, match="20 tasks waiting"):
        make_task()
    make_task(person="terminal:grace")
    worker(jobs_of(tasks[0])[0]).claim()
    make_task()


@pytest.mark.parametrize(
    ("about", "message"), [({"name": "  "}, "0 were given"), ({"name": "x" * 101}, "101 were given"), ({"name": "a\nb"}, "line breaks")]
)
def test_names_are_checked(make_task: MakeTask, about: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        make_task(**about)


@pytest.mark.parametrize("jobs", [0, 49])
def test_a_task_has_1_to_48_jobs(make_task: MakeTask, jobs: int) -> None:
    with pytest.raises(InvalidInputError, match="1 to 48"):
        make_task(jobs)


# ---------------------------------------------------------------- one job


def test_a_training_from_start_to_model(database: Database, make_task: MakeTask, jobs_of: JobsOf, worker: Any) -> None:
    task = make_task()
    at = worker(jobs_of(task)[0])
    claim = at.claim()
    assert claim == Claim(task.id, epoch=0, attempt=1, device_seconds=0, ending="")
    assert reload(database, task).state == "running"
    assert at.do(heartbeat, device_seconds=2.5) == ""
    at.do(record_event, progress(1, ended=False), sequence=100)
    assert at.epoch(1, 0.5)
    assert at.epoch(2, 0.8)
    assert at.epoch(3, 0.7, best=False)
    completion = at.finish(0.8)
    assert completion == Completion(task.id, at.holder[0], 1, 0.8, {"accuracy": 0.8})
    assert reload(database, task).state == "running", "until its model is there"
    model_id = at.complete("models/m")
    ended = reload(database, task)
    assert (ended.state, ended.metrics, ended.model_id) == ("finished", {"accuracy": 0.8}, model_id)
    assert ended.finished_at is not None
    job = jobs_of(task)[0]
    assert (job.state, job.epoch, job.score, job.attempts, job.device_seconds) == ("finished", 3, 0.8, 1, 2.5)
    assert kinds(database, task) == ["created", "started", "progress", "progress", "progress", "progress", "finished"]
    assert events(database, task)[-1].payload == {
        "metrics": {"accuracy": 0.8},
        "model_id": model_id,
        "report": {"curves": "models/m/curves.png"},
    }
    with database.read() as session:
        model = session.scalars(select(Model)).one()
    assert (model.task_id, model.name, model.classes, model.metrics, model.key) == (
        task.id,
        "cells",
        ["cat", "dog"],
        {"accuracy": 0.8},
        "models/m",
    )


def test_a_job_is_claimed_once(make_task: MakeTask, jobs_of: JobsOf, worker: Any) -> None:
    job = jobs_of(make_task())[0]
    assert worker(job).claim() is not None
    assert worker(job).claim() is None
    assert worker(job, 2).claim() is None


def test_an_epoch_is_stored_once(database: Database, make_task: MakeTask, jobs_of: JobsOf, worker: Any) -> None:
    task = make_task()
    at = worker(jobs_of(task)[0])
    at.claim()
    assert at.epoch(1, 0.5)
    assert not at.epoch(1, 0.9)
    assert jobs_of(task)[0].score == 0.5
    assert kinds(database, task).count("progress") == 1


def test_whoever_was_taken_over_writes_nothing_more(database: Database, make_task: MakeTask, jobs_of: JobsOf, worker: Any) -> None:
    task = make_task()
    zombie = worker(jobs_of(task)[0])
    zombie.claim()
    zombie.epoch(1, 0.5)
    assert zombie.lose()
    heir = worker(jobs_of(task)[0])
    assert heir.claim() == Claim(task.id, epoch=1, attempt=2, device_seconds=0, ending="")
    before = (events(database, task), jobs_of(task)[0].heartbeat_at)
    steps: list[Callable[[], object]] = [
        lambda: zombie.epoch(2, 0.99),
        lambda: zombie.do(heartbeat),
        lambda: zombie.do(asked),
        lambda: zombie.do(record_event, Noticed("boo"), sequence=9),
        zombie.finish,
        zombie.complete,
        lambda: zombie.do(stop_job),
        lambda: zombie.do(fail_job, "what", "remedy"),
        lambda: zombie.do(hand_back),
        lambda: zombie.do(resume_ending),
        lambda: zombie.do(fail_completion, "what", "remedy"),
    ]
    for step in steps:
        with pytest.raises(FencedError):
            step()
    assert not zombie.lose()
    after = events(database, task)
    assert [event.number for event in after] == [event.number for event in before[0]]
    assert jobs_of(task)[0].heartbeat_at == before[1]
    with database.read() as session:
        assert session.scalars(select(Epoch.number)).all() == [1]
    assert heir.finish() is not None
    assert heir.complete() is not None


def test_a_paused_job_goes_back_to_the_queue(database: Database, make_task: MakeTask, jobs_of: JobsOf, worker: Any) -> None:
    task = make_task()
    at = worker(jobs_of(task)[0])
    at.claim()
    at.do(hand_back, device_seconds=7.0)
    job = jobs_of(task)[0]
    assert (job.state, job.generation, job.losses_in_a_row, job.device_seconds) == ("waiting", 2, 0, 7.0)
    assert reload(database, task).state == "waiting"
    assert (job.id, 2) in outbox(database)


def test_a_job_that_is_always_lost_ends_in_error(
    database: Database, settings: Settings, make_task: MakeTask, jobs_of: JobsOf, worker: Any
) -> None:
    task = make_task()
    for attempt in range(1, settings.max_attempts + 1):
        at = worker(jobs_of(task)[0])
        assert at.claim().attempt == attempt
        assert at.lose("killed")
    ended = reload(database, task)
    assert ended.state == "error"
    assert "5 times in a row" in ended.error
    assert "memory" in ended.error_remedy
    assert kinds(database, task)[-1] == "failed"


def test_a_worker_that_is_always_lost_while_it_makes_the_model_is_not_said_to_lack_memory(
    database: Database, settings: Settings, make_task: MakeTask, jobs_of: JobsOf, worker: Any
) -> None:
    task = make_task()
    at = worker(jobs_of(task)[0])
    at.claim()
    at.epoch(1, 0.7)
    at.finish(0.7)
    for _ in range(settings.max_attempts):
        at.lose("killed")
        at = worker(jobs_of(task)[0])
        at.claim()
    ended = reload(database, task)
    assert ended.state == "error" and "5 times in a row while it made the model; the last time: killed" in ended.error
    assert "batch" not in ended.error_remedy


def test_a_job_that_is_always_lost_leaves_the_best_epoch_it_had(
    database: Database, settings: Settings, make_task: MakeTask, jobs_of: JobsOf, worker: Any
) -> None:
    task = make_task()
    for attempt in range(settings.max_attempts):
        at = worker(jobs_of(task)[0])
        at.claim()
        if not attempt:
            at.epoch(1, 0.7)
        at.lose("killed")
    assert reload(database, task).state == "waiting"
    said = [event.payload["message"] for event in events(database, task) if event.kind == "noticed"]
    assert "times in a row" in said[-1] and "the best epoch is kept" in said[-1]
    last = worker(jobs_of(task)[0])
    assert last.claim().ending == "finished"
    last.do(resume_ending)
    last.complete()
    assert reload(database, task).state == "finished"


def test_whoever_runs_out_of_memory_without_progress_goes_on_with_smaller_parts(
    database: Database, make_task: MakeTask, jobs_of: JobsOf, worker: Any
) -> None:
    task = make_task()

    def attempt(*epochs: int, out_of_memory: bool = True) -> tuple[int, bool]:
        at = worker(jobs_of(task)[0])
        at.claim()
        for number in epochs:
            at.epoch(number, 0.5)
        at.lose("gone", out_of_memory=out_of_memory)
        return TrainingPlan.model_validate(jobs_of(task)[0].plan).parts, "half as many" in events(database, task)[-1].payload["message"]

    assert attempt(out_of_memory=False) == (1, False), "the host went away, or somebody killed it"
    assert attempt() == (2, True)
    assert attempt(1, 2) == (2, False), "it had memory enough for two epochs"
    assert attempt() == (4, True)


def test_progress_makes_good_for_losses(database: Database, settings: Settings, make_task: MakeTask, jobs_of: JobsOf, worker: Any) -> None:
    task = make_task()
    for epoch in range(1, 3 * settings.max_attempts):
        at = worker(jobs_of(task)[0])
        at.claim()
        at.epoch(epoch, 0.5)
        at.lose()
    assert reload(database, task).state == "waiting"


def test_a_failed_job_says_why(database: Database, make_task: MakeTask, jobs_of: JobsOf, worker: Any) -> None:
    task = make_task()
    at = worker(jobs_of(task)[0])
    at.claim()
    assert at.do(fail_job, "It diverged.", "Lower the learning rate.") is None
    ended = reload(database, task)
    assert (ended.state, ended.error, ended.error_remedy, ended.model_id) == ("error", "It diverged.", "Lower the learning rate.", None)
    assert events(database, task)[-1].payload == {"error": "It diverged.", "remedy": "Lower the learning rate."}


def test_a_failed_job_leaves_the_best_epoch_it_had(database: Database, make_task: MakeTask, jobs_of: JobsOf, worker: Any) -> None:
    """As it is recorded: the storage, where it lies, may not answer just now."""
    task = make_task()
    at = worker(jobs_of(task)[0])
    at.claim()
    at.epoch(1, 0.5)
    at.epoch(2, 0.4, best=False)
    completion = at.do(fail_job, "It diverged.", "Lower the learning rate.")
    assert (completion.score, completion.metrics) == (0.5, {"accuracy": 0.5})
    assert events(database, task)[-1].payload["message"] == "It diverged. It ended early: the best epoch is kept."
    at.complete()
    assert (reload(database, task).state, jobs_of(task)[0].error) == ("finished", "It diverged.")


def test_what_a_task_waits_for_is_told_once_however_many_say_so(
    database: Database, make_task: MakeTask, jobs_of: JobsOf, worker: Any
) -> None:
    task = make_task(2)
    for job in jobs_of(task):
        at = worker(job)
        at.claim()
        at.do(remark, "The disk is full.", "Make room.")
    at.do(remark, "The storage fails.", "Mend it.")
    said = [event for event in events(database, task) if event.kind == "noticed"]
    assert [event.payload["message"] for event in said] == ["The disk is full.", "The storage fails."]
    assert {event.job_id for event in said} == {""}, "of the task: threads tell what concerns single jobs of a search among its details"
    with database.write() as session:
        for event in said:
            session.merge(event).created_at -= timedelta(hours=1)
    at.do(remark, "The disk is full.", "Make room.")
    assert kinds(database, task).count("noticed") == 3, "again, after it had passed"


def test_a_model_that_cannot_be_written_fails_the_task(database: Database, make_task: MakeTask, jobs_of: JobsOf, worker: Any) -> None:
    task = make_task()
    at = worker(jobs_of(task)[0])
    at.claim()
    at.finish()
    at.do(fail_completion, "The disk is full.", "Free some space.")
    assert (reload(database, task).state, reload(database, task).error) == ("error", "The disk is full.")


def test_a_worker_lost_while_making_the_model_is_followed_by_one_that_only_does_that(
    database: Database, make_task: MakeTask, jobs_of: JobsOf, worker: Any
) -> None:
    task = make_task()
    at = worker(jobs_of(task)[0])
    at.claim()
    at.epoch(1, 0.8)
    at.finish(0.8)
    assert at.lose()
    heir = worker(jobs_of(task)[0])
    assert heir.claim().ending == "finished"
    assert heir.do(resume_ending).score == 0.8
    assert heir.complete() is not None
    assert reload(database, task).state == "finished"
    assert kinds(database, task).count("started") == 1


def test_the_model_comes_only_after_the_training(make_task: MakeTask, jobs_of: JobsOf, worker: Any) -> None:
    at = worker(jobs_of(make_task())[0])
    at.claim()
    with pytest.raises(ConflictError):
        at.complete()


# ---------------------------------------------------------------- several jobs


def test_the_last_of_several_jobs_makes_the_model_of_the_best(
    database: Database, make_task: MakeTask, jobs_of: JobsOf, worker: Any
) -> None:
    task = make_task(3)
    workers = [worker(job) for job in jobs_of(task)]
    for at, score in zip(workers, (0.6, 0.9, 0.7), strict=True):
        at.claim()
        at.epoch(1, score)
    assert workers[0].finish(0.6) is None
    assert workers[1].finish(0.9) is None
    completion = workers[2].finish(0.7)
    assert (completion.number, completion.score) == (2, 0.9)
    workers[2].complete()
    ended = reload(database, task)
    assert (ended.state, ended.metrics) == ("finished", {"accuracy": 0.9})
    assert [job.state for job in jobs_of(task)] == ["finished"] * 3


def test_a_failed_job_does_not_fail_the_task(database: Database, make_task: MakeTask, jobs_of: JobsOf, worker: Any) -> None:
    task = make_task(2)
    good, bad = (worker(job) for job in jobs_of(task))
    good.claim()
    good.epoch(1, 0.6)
    assert good.finish(0.6) is None
    bad.claim()
    completion = bad.do(fail_job, "It diverged.", "Lower it.")
    assert completion.number == 1
    said = [event.payload["message"] for event in events(database, task) if event.kind == "noticed"]
    assert said == ["Training job 2 of 2 failed: It diverged."], "nobody else will tell it, and there are no others to go on"
    bad.lose()
    heir = worker(jobs_of(task)[1])
    heir.claim()
    heir.do(resume_ending)
    heir.complete()
    said = [event.payload["message"] for event in events(database, task) if event.kind == "noticed"]
    assert len(said) == 2 and "Its model is made on the next free worker" in said[1], "and it is not told again"
    ended = reload(database, task)
    assert (ended.state, ended.metrics) == ("finished", {"accuracy": 0.6})
    assert [job.state for job in jobs_of(task)] == ["finished", "error"]


def test_others_hear_of_a_failed_job(database: Database, make_task: MakeTask, jobs_of: JobsOf, worker: Any) -> None:
    task = make_task(2)
    bad = worker(jobs_of(task)[0])
    bad.claim()
    assert bad.do(fail_job, "It diverged.", "Lower it.") is None
    assert reload(database, task).state == "running"
    assert "Training job 1 of 2 failed: It diverged." in events(database, task)[-1].payload["message"]


def test_a_job_lost_for_good_as_the_last_still_leaves_the_model_of_the_others(
    database: Database, settings: Settings, make_task: MakeTask, jobs_of: JobsOf, worker: Any
) -> None:
    task = make_task(2)
    good = worker(jobs_of(task)[0])
    good.claim()
    good.epoch(1, 0.6)
    good.finish(0.6)
    for _ in range(settings.max_attempts):
        bad = worker(jobs_of(task)[1])
        bad.claim()
        bad.lose()
    assert reload(database, task).state == "waiting"
    last = worker(jobs_of(task)[1])
    assert last.claim().ending == "error"
    assert last.do(resume_ending).number == 1
    last.complete()
    assert reload(database, task).state == "finished"
    assert [job.state for job in jobs_of(task)] == ["finished", "error"]


def test_all_jobs_failed(database: Database, make_task: MakeTask, jobs_of: JobsOf, worker: Any) -> None:
    task = make_task(2)
    for number, job in enumerate(jobs_of(task)):
        at = worker(job)
        at.claim()
        at.do(fail_job, f"Fault {number}.", "Mend it.")
    assert (reload(database, task).state, reload(database, task).error) == ("error", "Fault 0.")


# ---------------------------------------------------------------- stop


def stop(database: Database, actor: Actor, task: Task, mode: str) -> Task:
    with database.write() as session:
        return stop_task(session, actor, session.get_one(Task, task.id), mode)


@pytest.mark.parametrize("mode", ["keep", "discard"])
def test_stop_while_waiting(database: Database, make_task: MakeTask, jobs_of: JobsOf, worker: Any, ada: Actor, mode: str) -> None:
    task = make_task(3)
    assert stop(database, ada, task, mode).state == "stopped"
    assert [job.state for job in jobs_of(task)] == ["stopped"] * 3
    assert outbox(database) == []
    assert worker(jobs_of(task)[0]).claim() is None, "also where the queue still has it"
    assert kinds(database, task) == ["created", "stopping", "stopped"]
    with pytest.raises(ConflictError, match="ended already"):
        stop(database, ada, task, mode)


@pytest.mark.parametrize("mode", ["keep", "discard"])
def test_stop_while_running(database: Database, make_task: MakeTask, jobs_of: JobsOf, worker: Any, ada: Actor, mode: str) -> None:
    task = make_task()
    at = worker(jobs_of(task)[0])
    at.claim()
    at.epoch(1, 0.7)
    assert stop(database, ada, task, mode).state == "stopping"
    assert at.do(asked) == mode
    assert at.do(heartbeat) == mode
    completion = at.do(stop_job)
    if mode == "keep":
        assert completion.score == 0.7
        model_id = at.complete()
    else:
        assert completion is None
        model_id = None
    ended = reload(database, task)
    assert (ended.state, ended.model_id) == ("stopped", model_id)
    assert ended.metrics == ({"accuracy": 0.7} if mode == "keep" else {})
    assert kinds(database, task)[-1] == "stopped"


def test_stop_before_the_first_epoch_has_nothing_to_keep(
    database: Database, make_task: MakeTask, jobs_of: JobsOf, worker: Any, ada: Actor
) -> None:
    task = make_task()
    at = worker(jobs_of(task)[0])
    at.claim()
    stop(database, ada, task, "keep")
    assert at.do(stop_job) is None
    assert (reload(database, task).state, reload(database, task).model_id) == ("stopped", None)


def test_keep_can_become_discard_but_not_again_keep(
    database: Database, make_task: MakeTask, jobs_of: JobsOf, worker: Any, ada: Actor
) -> None:
    task = make_task()
    at = worker(jobs_of(task)[0])
    at.claim()
    at.epoch(1, 0.7)
    stop(database, ada, task, "keep")
    stop(database, ada, task, "keep")
    assert at.do(stop_job) is not None
    stop(database, ada, task, "discard")
    stop(database, ada, task, "keep")
    assert at.complete() is None, "discarded while the model was being made"
    assert (reload(database, task).state, reload(database, task).model_id) == ("stopped", None)
    assert kinds(database, task).count("stopping") == 2


def test_stop_and_keep_what_a_lost_worker_left(database: Database, make_task: MakeTask, jobs_of: JobsOf, worker: Any, ada: Actor) -> None:
    task = make_task(2)
    at = worker(jobs_of(task)[1])
    at.claim()
    at.epoch(1, 0.7)
    at.lose()
    assert stop(database, ada, task, "keep").state == "stopping"
    assert [job.state for job in jobs_of(task)] == ["stopped", "waiting"]
    heir = worker(jobs_of(task)[1])
    assert heir.claim().ending == "stopped"
    assert heir.do(resume_ending).score == 0.7
    assert heir.complete() is not None
    assert reload(database, task).state == "stopped"
    assert [job.state for job in jobs_of(task)] == ["stopped", "stopped"]


def test_a_stopping_job_that_is_lost_still_ends(database: Database, make_task: MakeTask, jobs_of: JobsOf, worker: Any, ada: Actor) -> None:
    for mode, state in (("discard", "stopped"), ("keep", "stopping")):
        task = make_task()
        at = worker(jobs_of(task)[0])
        at.claim()
        at.epoch(1, 0.7)
        stop(database, ada, task, mode)
        at.lose()
        assert reload(database, task).state == state
    heir = worker(jobs_of(task)[0])
    assert heir.claim().ending == "stopped"
    assert heir.do(resume_ending) is not None
    heir.complete()
    assert reload(database, task).state == "stopped"


@pytest.mark.parametrize("ends", ["lost", "hand_back"])
def test_what_is_discarded_while_its_model_is_made_needs_no_other_worker(
    database: Database, make_task: MakeTask, jobs_of: JobsOf, worker: Any, ada: Actor, ends: str
) -> None:
    task = make_task()
    at = worker(jobs_of(task)[0])
    at.claim()
    at.finish()
    stop(database, ada, task, "discard")
    if ends == "lost":
        assert at.lose()
    else:
        at.do(hand_back)
    stopped = reload(database, task)
    assert (stopped.state, stopped.model_id, jobs_of(task)[0].state) == ("stopped", None, "stopped")
    assert kinds(database, task)[-2:] == ["stopping", "stopped"] and outbox(database) == [(at.holder[0], 1)], "its first row only"
    with database.write() as session:
        delete_task(session, ada, session.get_one(Task, task.id))


@pytest.mark.parametrize(("mode", "score"), [("keep", None), ("keep", 0.5), ("discard", 0.5)])
def test_a_job_that_fails_when_it_has_been_asked_to_stop_has_stopped(
    database: Database, make_task: MakeTask, jobs_of: JobsOf, worker: Any, ada: Actor, mode: str, score: float | None
) -> None:
    """As one has whose worker is lost."""
    task = make_task()
    at = worker(jobs_of(task)[0])
    at.claim()
    if score is not None:
        at.epoch(1, score)
    stop(database, ada, task, mode)
    completion = at.do(fail_job, "It diverged.", "Lower the learning rate.")
    kept = mode == "keep" and score is not None
    assert (completion is not None) == kept
    if kept:
        at.complete()
    ended, job = reload(database, task), jobs_of(task)[0]
    assert (ended.state, ended.error, job.state, job.error) == ("stopped", "", "stopped", "")
    assert (ended.model_id is not None) == kept and kinds(database, task)[-1] == "stopped"


def test_a_model_that_cannot_be_made_and_is_discarded_is_no_error(
    database: Database, make_task: MakeTask, jobs_of: JobsOf, worker: Any, ada: Actor
) -> None:
    task = make_task()
    at = worker(jobs_of(task)[0])
    at.claim()
    at.finish()
    stop(database, ada, task, "discard")
    at.do(fail_completion, "The disk is full.", "Free some space.")
    assert (reload(database, task).state, reload(database, task).error) == ("stopped", "")
    assert kinds(database, task)[-1] == "stopped"


def test_stop_of_many_jobs_keeps_the_best(database: Database, make_task: MakeTask, jobs_of: JobsOf, worker: Any, ada: Actor) -> None:
    task = make_task(4)
    done, running = (worker(job) for job in jobs_of(task)[:2])
    done.claim()
    done.epoch(1, 0.9)
    done.finish(0.9)
    running.claim()
    running.epoch(1, 0.5)
    stop(database, ada, task, "keep")
    assert [job.state for job in jobs_of(task)] == ["finished", "stopping", "stopped", "stopped"]
    completion = running.do(stop_job)
    assert (completion.number, completion.score) == (1, 0.9)
    running.complete()
    ended = reload(database, task)
    assert (ended.state, ended.metrics) == ("stopped", {"accuracy": 0.9})


def test_only_owner_and_admin_may(database: Database, make_task: MakeTask, ada: Actor, grace: Actor, storage: Storage) -> None:
    task = make_task()
    stranger = Actor("elsewhere", ada.person, "Ada")
    with pytest.raises(NotAllowedError):
        stop(database, grace, task, "keep")
    with pytest.raises(NotFoundError):
        stop(database, stranger, task, "keep")
    with pytest.raises(NotAllowedError), database.write() as session:
        rename_task(session, grace, task, "mine")
    with pytest.raises(NotAllowedError):
        remove_task(database, storage, grace, task.id)
    with pytest.raises(InvalidInputError):
        stop(database, ada, task, "perhaps")
    admin = Actor("default", "terminal:root", "Root", admin=True)
    assert stop(database, admin, task, "keep").state == "stopped"


# ---------------------------------------------------------------- rename, delete


def test_rename(database: Database, make_task: MakeTask, ada: Actor) -> None:
    task = make_task()
    with database.write() as session:
        rename_task(session, ada, task, " nuclei ")
    assert reload(database, task).name == "nuclei"
    with pytest.raises(InvalidInputError), database.write() as session:
        rename_task(session, ada, task, "")


def test_delete_takes_all_but_the_model(
    database: Database, storage: Storage, make_task: MakeTask, jobs_of: JobsOf, worker: Any, ada: Actor, place: Place
) -> None:
    task = make_task(place=place)
    at = worker(jobs_of(task)[0])
    at.claim()
    at.epoch(1, 0.7)
    with pytest.raises(ConflictError, match="running"):
        remove_task(database, storage, ada, task.id)
    at.finish()
    at.complete()
    storage.write(f"tasks/{task.id}/split.json", b"{}")
    remove_task(database, storage, ada, task.id)
    with database.read() as session:
        for table in (Task, Job, Event, Epoch, Delivery, Outbox):
            assert session.scalar(select(func.count()).select_from(table)) == 0, table.__name__
        assert session.scalar(select(func.count()).select_from(Model)) == 1
    assert not storage.exists(f"tasks/{task.id}")
    with pytest.raises(NotFoundError):
        remove_task(database, storage, ada, task.id)


def test_a_waiting_task_can_be_deleted(
    database: Database, storage: Storage, make_task: MakeTask, jobs_of: JobsOf, worker: Any, ada: Actor
) -> None:
    task = make_task(2)
    jobs = jobs_of(task)
    remove_task(database, storage, ada, task.id)
    assert outbox(database) == []
    assert worker(jobs[0]).claim() is None
