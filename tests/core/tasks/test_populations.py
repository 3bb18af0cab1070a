"""The members of a population in the database: slices, copies, divergence; and jobs of other searches that end early."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from search_jobs import Search
from sqlalchemy import select

from core.access import Actor
from core.db.session import Database
from core.db.tables import Epoch, Event, Lineage, Outbox, Task
from core.settings import Settings
from core.tasks.actions import stop_task
from core.tasks.creation import NewTask
from core.tasks.lifecycle import FencedError, NewModel, complete_task, fail_job, finish_job, hand_back, lose_job
from core.tuning.lineage import Stretch, begin_slice, family, latest_copy, save_diverged
from core.tuning.scores import members, why_enough
from core.tuning.search import values_of
from core.tuning.standings import standings
from core.vocabulary import Tuning


@pytest.fixture
def search(database: Database, settings: Settings, new_task: Callable[..., NewTask]) -> Callable[..., Search]:
    return lambda tuning=Tuning.POPULATION, jobs=5, **plan: Search(database, settings, new_task(), tuning, jobs, **plan)


def rounds(search: Search, *scores: Sequence[float]) -> None:
    for of_round in scores:
        for number, score in enumerate(of_round, 1):
            search.slice(number, score)


def test_between_slices_the_task_is_running_and_its_job_waits_under_a_new_generation(search: Any) -> None:
    population = search()
    population.slice(1, 0.5)
    job = population.job(1)
    assert (population.state(), job.state, job.generation, job.epoch, job.device_seconds) == ("running", "waiting", 2, 1, 1.0)
    with population.database.read() as session:
        assert session.scalars(select(Outbox.generation).where(Outbox.job_id == job.id).order_by(Outbox.id)).all() == [1, 2]


def test_the_worst_copies_the_best_when_its_next_slice_begins(search: Any) -> None:
    population = search()
    before = {number: values_of(population.job(number).plan) for number in range(1, 6)}
    rounds(population, (0.1, 0.5, 0.9, 0.6, 0.7))
    population.claim(2)
    population.claim(1)
    (copy,) = population.copies()
    assert (copy.number, copy.epoch, copy.source, copy.source_epoch, copy.score, copy.source_score) == (1, 1, 3, 1, 0.1, 0.9)
    assert copy.before == before[1] and copy.after == values_of(population.job(1).plan) != before[1]
    assert all(low <= copy.after[name] <= high for name, (low, high) in population.ranges.items())
    with population.database.read() as session:
        ordered = latest_copy(session, population.job(1).id)
    assert ordered is not None and ordered.generation == population.job(1).generation == 2
    assert values_of(population.job(2).plan) == before[2]


def test_the_family_leads_to_the_best_epoch_not_to_the_last(search: Any) -> None:
    population = search()
    rounds(population, (0.1, 0.5, 0.9, 0.6, 0.7))
    for score in (0.95, 0.95, 0.94):  # it copies first; of two equal epochs the one with the lower loss is the best
        population.slice(1, score)
    with population.database.write() as session:
        second = session.get_one(Epoch, (population.job(1).id, 2))
        second.values = {**second.values, "val_loss": 0.9}
    with population.database.read() as session:
        found = family(session, population.task.id, 1)
        nobody = family(session, population.task.id, None)
    assert found.line == (Stretch(3, 0, 1), Stretch(1, 1, 3))
    assert [copy.source for copy in found.copies] == [3] and nobody.copies == found.copies and nobody.line == ()


def test_a_worker_lost_after_the_decision_leaves_it_standing_and_it_is_not_taken_twice(search: Any) -> None:
    population = search()
    rounds(population, (0.1, 0.5, 0.9, 0.6, 0.7))
    population.claim(1)
    plan = population.job(1).plan
    population.do(1, lambda session, *holder: lose_job(session, population.settings, *holder, "killed"))
    population.claim(1)
    assert len(population.copies()) == 1 and population.job(1).plan == plan
    population.epoch(1, 0.2)
    population.do(1, hand_back, between_slices=True)
    population.claim(1)
    assert [copy.epoch for copy in population.copies()] == [1, 2], "at the next slice it looks again"


def test_whoever_was_taken_over_decides_nothing(search: Any) -> None:
    population = search()
    rounds(population, (0.1, 0.5, 0.9, 0.6, 0.7))
    with pytest.raises(FencedError), population.database.write() as session:
        begin_slice(session, population.job(1).id, 1)
    assert population.copies() == []


def test_in_the_midst_of_a_slice_nobody_copies(search: Any) -> None:
    population = search(epochs=100)  # slices of five epochs
    rounds(population, (0.1, 0.5, 0.9, 0.6, 0.7))
    population.claim(1)
    assert population.copies() == []


def test_nobody_waits_for_anybody(search: Any) -> None:
    """One member may be far ahead: the others are compared with what it has published last."""
    population = search(jobs=8)
    for epoch in range(10):
        population.slice(8, 0.5 + epoch / 100)
    population.slice(1, 0.1)
    population.claim(1)
    (copy,) = population.copies()
    assert (copy.source, copy.source_epoch) == (8, 10)


def test_a_diverged_member_goes_on_from_one_of_the_best(search: Any) -> None:
    population = search()
    rounds(population, (0.4, 0.5, 0.9, 0.6, 0.7))
    population.claim(4)
    assert population.do(4, lambda session, *holder: save_diverged(session, population.settings, *holder, device_seconds=2.0))
    (copy,) = population.copies()
    assert (copy.number, copy.source, copy.score) == (4, 3, None)
    assert (population.job(4).state, population.state()) == ("waiting", "running")
    population.claim(4)
    assert len(population.copies()) == 1


def test_a_member_that_always_diverges_is_given_up(search: Any) -> None:
    population = search()
    rounds(population, (0.4, 0.5, 0.9, 0.6, 0.7))

    def save() -> bool:
        population.claim(4)
        saved: bool = population.do(4, lambda session, *holder: save_diverged(session, population.settings, *holder, device_seconds=2.0))
        return saved

    assert [save() for _ in range(population.settings.max_attempts)] == [True] * population.settings.max_attempts
    assert not save()
    population.do(4, fail_job, "It diverged.", "Lower the learning rate.")
    assert population.state() == "running", "the others go on"
    with population.database.read() as session:
        assert 4 not in {member.number for member in members(session, population.task.id)}, "and copy it no more"


def test_the_first_to_diverge_gets_another_turn_after_the_others(search: Any) -> None:
    population = search(jobs=2)

    def save() -> bool:
        population.claim(1)
        saved: bool = population.do(1, lambda session, *holder: save_diverged(session, population.settings, *holder, device_seconds=1.0))
        return saved

    assert save() and population.copies() == []
    population.slice(2, 0.8)
    assert save() and population.copies()[0].source == 2


def save_first(population: Search) -> bool:
    population.claim(1)
    saved: bool = population.do(1, lambda session, *holder: save_diverged(session, population.settings, *holder, device_seconds=1.0))
    return saved


def test_the_first_to_diverge_gets_one_more_turn_only(search: Any) -> None:
    population = search(jobs=2)
    assert save_first(population)
    assert not save_first(population), "nobody has published anything yet, and it has diverged again"


def test_who_diverges_alone_is_not_waited_for(search: Any) -> None:
    population = search(jobs=2)
    population.claim(2)
    population.do(2, fail_job, "It diverged.", "Lower it.")
    assert not save_first(population)


def test_rescues_are_counted_anew_at_each_epoch(search: Any) -> None:
    population = search()
    rounds(population, (0.4, 0.5, 0.9, 0.6, 0.7))
    for _ in range(population.settings.max_attempts):
        assert save_first(population)
    assert not save_first(population)
    population.epoch(1, 0.8)
    population.do(1, hand_back, between_slices=True)
    assert save_first(population), "it has come further since"


def test_the_last_job_counts_as_ended_while_it_makes_the_model_and_has_all_its_attempts_for_that(search: Any) -> None:
    grid = search(Tuning.GRID, jobs=2)
    grid.claim(1)
    grid.epoch(1, 0.9)
    grid.do(1, finish_job, score=0.9, metrics={"accuracy": 0.9})

    def lose() -> None:
        grid.claim(2)
        grid.do(2, lambda session, *holder: lose_job(session, grid.settings, *holder, "killed"))

    for _ in range(grid.settings.max_attempts):
        lose()
    assert (grid.job(2).state, grid.job(2).ending, grid.state()) == ("waiting", "error", "waiting")
    with grid.database.read() as session:
        assert standings(session, grid.task).outcome == "1 finished (1 of them early), 0 stopped, 1 failed"
    for _ in range(grid.settings.max_attempts - 1):
        lose()
    assert grid.job(2).ending == "error", "these were losses of another kind"
    grid.claim(2)
    grid.do(2, complete_task, NewModel(f"models/{grid.task.id}", ["a"]))
    assert (grid.state(), grid.job(1).state, grid.job(2).state) == ("finished", "finished", "error")


def test_stopped_between_slices_the_best_is_kept(search: Any, ada: Actor) -> None:
    population = search()
    rounds(population, (0.4, 0.5, 0.9, 0.6, 0.7))
    with population.database.write() as session:
        stop_task(session, ada, session.get_one(Task, population.task.id), "keep")
    assert population.state() == "stopping"
    assert sorted(population.job(number).state for number in range(1, 6)) == ["stopped"] * 4 + ["waiting"]
    assert population.job(3).ending == "stopped", "the best has yet to become the model"


def test_deleting_the_task_deletes_its_lineage(search: Any) -> None:
    population = search()
    rounds(population, (0.1, 0.5, 0.9, 0.6, 0.7))
    population.claim(1)
    with population.database.write() as session:
        session.delete(session.get_one(Task, population.task.id))
    with population.database.read() as session:
        assert session.scalars(select(Lineage)).all() == []


# ---------------------------------------------------------------- ending early


def train(search: Search, number: int, *scores: float) -> str:
    """Epochs of a job, until they are over or it is told that they are enough; why they are."""
    search.claim(number)
    for epoch, score in enumerate(scores, 1):
        search.epoch(number, score)
        with search.database.read() as session:
            if reason := why_enough(session, search.job(number).id, epoch):
                search.do(number, finish_job, score=max(scores[:epoch]), metrics={"accuracy": max(scores[:epoch])})
                return reason
    return ""


def test_hopeless_jobs_of_a_search_end_at_a_rung_and_have_finished(search: Any) -> None:
    grid = search(Tuning.RANDOM, jobs=4, epochs=8)
    assert train(grid, 1, 0.5, 0.8) == train(grid, 2, 0.5, 0.7) == ""
    assert "of the 3 jobs that have come so far, it is not in the better half" in train(grid, 3, 0.2, 0.3, 0.9)
    with grid.database.read() as session:
        found = standings(session, grid.task)
    assert (grid.job(3).state, grid.job(3).score, found.jobs[2].ended_early) == ("finished", 0.3, True)
    assert found.counts == "2 running, 1 waiting, 1 finished (1 of them early)"
    assert [job.number for job in found.ranked] == [1, 2, 3]
    assert found.fraction == pytest.approx((0.25 + 0.25 + 1 + 0) / 4)


@pytest.mark.parametrize(("tuning", "plan"), [(Tuning.RANDOM, {"early_stop": False}), (Tuning.POPULATION, {})])
def test_without_early_stop_and_in_a_population_none_ends(search: Any, tuning: Tuning, plan: dict[str, Any]) -> None:
    found = search(tuning, jobs=4, epochs=8, **plan)  # judged after 2 and 4
    for number in range(1, 5):
        assert train(found, number, *(0.9 - number / 10,) * 5) == ""


def test_of_many_failures_the_first_is_told(search: Any) -> None:
    grid = search(Tuning.GRID, jobs=4)
    grid.claim(4)
    grid.epoch(4, 0.5)
    grid.do(4, fail_job, "A file is gone.", "Restore it.")
    for number in (1, 2, 3):
        grid.claim(number)
        grid.do(number, fail_job, "It diverged.", "Lower it.")
    with grid.database.read() as session:
        told = session.scalars(select(Event.payload).where(Event.task_id == grid.task.id, Event.kind == "noticed")).all()
    assert [payload["message"].partition(":")[0] for payload in told] == ["Training job 4 of 4 ended early"]
