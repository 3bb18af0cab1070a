"""Grid and random search in the wizard: what is typed, what is refused, and the jobs that are made."""

import pytest
from sqlalchemy import select

from core.access import Actor, Place
from core.db.session import Database
from core.db.tables import Job, Task
from core.settings import Settings
from core.storage import Storage
from core.wizard.conversation import Conversation, Press
from core.wizard.screens import Facts, Screen, Text


class Person:
    def __init__(self, conversation: Conversation, actor: Actor, place: Place) -> None:
        self.conversation, self.actor = conversation, actor
        self.screen = conversation.begin(actor, place)

    def press(self, action: str, value: str = "", **values: str) -> str:
        press = Press(self.screen.draft_id, self.screen.version, action, value, values)
        self.screen = self.conversation.handle(self.actor, press)
        return words(self.screen)


def words(screen: Screen) -> str:
    parts = [screen.notice.body if screen.notice else ""]
    for block in screen.blocks:
        if isinstance(block, Text):
            parts.append(block.body)
        elif isinstance(block, Facts):
            parts += [block.title, *(f"{name}: {value}" for name, value in block.rows)]
    return "\n".join(parts)


@pytest.fixture
def person(database: Database, storage: Storage, settings: Settings, ada: Actor, place: Place, add_dataset) -> Person:
    pets = add_dataset("pets")
    person = Person(Conversation(database, storage, settings), ada, place)
    for action, value in (
        ("next", ""),
        ("choose:task-type", "single-label"),
        ("next", ""),
        ("choose:dataset", pets.id),
        ("next", ""),
        ("choose:selection", "manual"),
        ("choose:family", "ResNet"),
        ("choose:network", "resnet18"),
        ("choose:pretraining", "none"),
        ("next", ""),
    ):
        person.press(action, value)
    return person


def test_a_grid_shows_its_product_and_becomes_as_many_jobs(person: Person, database: Database) -> None:
    assert "1 learning rate × 1 weight decay × 1 momentum = 1 training job" in person.press("choose:tuning", "grid")
    seen = person.press("submit:values-to-try", grid_learning_rate="0.001, 0.01", grid_momentum="0.8, 0.9")
    assert "2 learning rates × 1 weight decay × 2 momenta = 4 training jobs" in seen
    person.press("submit:data-loader", epochs="3")
    person.press("next")
    assert "Training jobs: 4" in person.press("next")
    person.press("start")
    with database.read() as session:
        task = session.scalars(select(Task)).one()
        plans = session.scalars(select(Job.plan).order_by(Job.number)).all()
    assert task.tuning == "grid" and task.settings == {"epochs": 3, "learning_rate": [0.001, 0.01], "momentum": [0.8, 0.9]}
    assert [(plan["learning_rate"], plan["momentum"]) for plan in plans] == [(0.001, 0.8), (0.001, 0.9), (0.01, 0.8), (0.01, 0.9)]
    assert {(plan["epochs"], plan["optimizer"]) for plan in plans} == {(3, "sgd")}


def test_more_than_48_jobs_cannot_go_on(person: Person) -> None:
    person.press("choose:tuning", "grid")
    person.press(
        "submit:values-to-try", grid_learning_rate="0.1,0.2,0.3,0.4,0.5,0.6", grid_weight_decay="0,0.01,0.02", grid_momentum="0.7,0.8,0.9"
    )
    seen = person.press("next")
    assert "6 learning rates × 3 weight decays × 3 momenta = 54 training jobs; a task has at most 48" in seen
    assert person.screen.title == "How shall it be tuned?"


def test_a_range_that_is_refused_is_named_and_the_rest_kept(person: Person, database: Database) -> None:
    person.press("choose:tuning", "random")
    seen = person.press("submit:ranges-and-jobs", random_learning_rate="1..0.1", random_jobs="9")
    assert "Learning rate (learning_rate) takes lowest..highest" in seen and "“1..0.1” was given" in seen and "Training jobs: 9" in seen
    person.press("submit:ranges-and-jobs", random_learning_rate="1e-4..1e-2")
    person.press("next")
    assert "Training jobs: 9" in person.press("next")
    person.press("start")
    with database.read() as session:
        plans = session.scalars(select(Job.plan)).all()
    assert len({plan["learning_rate"] for plan in plans}) == 9
    assert all(0.0001 <= plan["learning_rate"] <= 0.01 and 0.8 <= plan["momentum"] <= 0.99 for plan in plans)


def test_a_population_shows_the_ranges_of_the_reference_and_becomes_its_members(person: Person, database: Database) -> None:
    seen = person.press("choose:tuning", "population")
    for line in ("Learning rate: 0.000003..0.03", "Weight decay: 0..0.01", "Momentum: 0.8..0.99", "Training jobs: 24"):
        assert line in seen
    assert "Early stop" not in seen, "members that fall behind copy a better one instead"
    assert "Momentum (momentum) takes lowest..highest, both numbers from 0.8 to 0.99" in person.press(
        "submit:ranges-and-jobs", population_momentum="0.5..0.9"
    )
    person.press("submit:ranges-and-jobs", population_momentum="0.85..0.95", population_jobs="10")
    person.press("next")
    seen = person.press("next")
    assert "Tuning: Population-based" in seen and "Training jobs: 10" in seen and "Momentum: 0.85..0.95" in seen
    person.press("start")
    with database.read() as session:
        task = session.scalars(select(Task)).one()
        plans = session.scalars(select(Job.plan)).all()
    assert task.search["tuning"] == "population" and task.search["ranges"]["momentum"] == [0.85, 0.95]
    assert len({plan["learning_rate"] for plan in plans}) == 10
    assert {plan["early_stop"] for plan in plans} == {False}
    assert all(0.000003 <= plan["learning_rate"] <= 0.03 and 0.85 <= plan["momentum"] <= 0.95 for plan in plans)


@pytest.mark.parametrize(
    ("tuning", "name", "text", "allowed"),
    [
        ("grid", "grid_learning_rate", "0.1,0.2,0.3,0.4,0.5,0.6,0.7", "up to 6 numbers from 0.000001 to 1"),
        ("random", "random_jobs", "7", "an integer from 8 to 48"),
        ("random", "random_jobs", "49", "an integer from 8 to 48"),
        ("population", "population_jobs", "7", "an integer from 8 to 48"),
        ("population", "population_learning_rate", "0.000001..0.03", "both numbers from 0.000003 to 0.03"),
        ("population", "population_weight_decay", "0..0.1", "both numbers from 0 to 0.01"),
    ],
)
def test_nothing_out_of_the_reference_s_ranges_goes_on(person: Person, tuning: str, name: str, text: str, allowed: str) -> None:
    person.press("choose:tuning", tuning)
    form = "values-to-try" if tuning == "grid" else "ranges-and-jobs"
    seen = person.press(f"submit:{form}", **{name: text})
    assert allowed in seen and f"“{text}” was given" in seen
    person.press("next")
    assert person.screen.title == "How shall it be tuned?"


@pytest.mark.parametrize(
    ("hours", "jobs", "why"),
    [(0.0, "1", "the operator has set no budget"), (1000.0, "24", "long enough for a population"), (1e-9, "1", "holds no whole training")],
)
def test_auto_says_before_start_what_it_took_and_why(person: Person, settings: Settings, hours: float, jobs: str, why: str) -> None:
    settings.auto_gpu_hours = hours
    person.press("choose:tuning", "auto")
    person.press("next")
    seen = person.press("next")
    assert f"Training jobs: {jobs}" in seen and why in seen


def test_what_was_typed_before_auto_was_chosen_is_not_said_of_the_task(person: Person, database: Database) -> None:
    person.press("choose:tuning", "manual")
    person.press("submit:manual-assignment", momentum="0.5", learning_rate="0.3")
    person.press("submit:data-loader", seed="7")
    person.press("choose:tuning", "auto")
    for action in ("next", "next", "start"):
        person.press(action)
    with database.read() as session:
        task = session.scalars(select(Task)).one()
        plan = session.scalars(select(Job.plan)).one()
    assert task.tuning == "auto" and task.settings == {"seed": 7} and plan["seed"] == 7
    assert plan["optimizer"] == "adamw" and plan["learning_rate"] != 0.3
