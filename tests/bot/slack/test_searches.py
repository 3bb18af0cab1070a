"""A search in Slack: its leaderboard from the thread, in a dialog only the presser sees, and on to the curves of a job."""

from typing import Any

from new_tasks import training_of
from search_jobs import Search
from slack_person import Person, pictures, read

from core.access import Place
from core.db.session import Database
from core.settings import Settings
from core.vocabulary import Tuning


def test_from_the_thread_to_a_job_s_curves(person: Person, running: Any, add_dataset: Any, database: Database, settings: Settings) -> None:
    pets = add_dataset("pets")
    root = person.mention("hello")
    new = training_of(pets, person="slack:U0000ADA", name="Pets", plans=(), place=Place("slack", f"T0000FAKE/{person.channel}", root["ts"]))
    search = Search(database, settings, new, Tuning.RANDOM, 8)
    for number in (1, 2, 3):
        search.claim(number)
        search.epoch(number, number / 10)
    running.notifier.tick()
    (message,) = [item for item in person.slack.messages(person.channel, root["ts"]) if "of 8 jobs" in read(item)]
    assert "1. Job 3" in read(message)
    person.press("Leaderboard", message)
    board = person.opened()
    assert "Jobs 1–8 of 8, the best first" in read(board) and len(pictures(board)) == 1
    person.choose("task:curves", "Job 2", board)
    shown = person.opened()
    assert "Pets, job 2 of 8" in read(shown) and "Best epoch" in read(shown) and len(pictures(shown)) == 1
    person.press("All jobs", shown)
    assert "Jobs 1–8 of 8" in read(person.opened())


def test_the_product_of_a_grid_is_shown_as_it_is_typed(person: Person, add_dataset: Any) -> None:
    add_dataset("pets")
    person.command("/train")
    for action, choice in (
        ("", ""),
        ("choose:task-type", "Single-label"),
        ("", ""),
        ("choose:dataset", "pets"),
        ("", ""),
        ("choose:selection", "Manual"),
        ("choose:family", "ResNet"),
        ("choose:network", "resnet18"),
        ("choose:pretraining", "None"),
        ("", ""),
        ("choose:tuning", "Grid"),
    ):
        person.choose(action, choice) if action else person.press("Next")
    assert "1 learning rate × 1 weight decay × 1 momentum = 1 training job" in person.read()
    person.press("Values to try")
    assert "= 1 training job" in read(person.opened())
    person.type_into("grid_learning_rate", "0.1, 0.01")
    assert "2 learning rates × 1 weight decay × 1 momentum = 2 training jobs" in read(person.opened())
    person.type_into("grid_learning_rate", "0.1, 0.01, x")
    assert "Numbers, separated by commas." in read(person.opened())
    person.type_into("grid_learning_rate", "0.1, 0.01, 0.001")
    assert "= 3 training jobs" in read(person.opened())
    six = "0.1, 0.2, 0.3, 0.4, 0.5, 0.6"
    answer = person.fill(grid_learning_rate=six, grid_momentum="0.7, 0.8, 0.9", grid_weight_decay="0, 0.01, 0.02")
    assert answer.payload is not None and answer.payload["errors"] == {
        "field:grid_learning_rate": "6 learning rates × 3 weight decays × 3 momenta = 54 training jobs; a task has at most 48. "
        "Give fewer values to try."
    }
    person.fill(grid_learning_rate="0.1, 0.01", grid_momentum="0.8, 0.9", grid_weight_decay="0")
    assert "2 learning rates × 1 weight decay × 2 momenta = 4 training jobs" in person.read()
