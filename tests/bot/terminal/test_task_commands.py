"""`stationmaster task …` as scripts call it: searches are created, refused and shown."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from finished_models import stripes_model
from new_tasks import training_of
from PIL import Image
from search_jobs import Search
from sqlalchemy import select

from bot.terminal.commands.app import main
from core.access import Actor
from core.datasets.formats import READERS
from core.db.session import Database
from core.db.tables import AnnotationSet, Job, Model, Task
from core.events import Noticed, Progress
from core.settings import Settings
from core.tasks.creation import create_task
from core.tasks.hyperparameters import FIELDS, TrainingPlan
from core.tasks.journal import add_event
from core.tasks.lifecycle import claim_job, fail_job, hand_back, heartbeat, lose_job, record_epoch, record_event
from core.vocabulary import Tuning


@dataclass
class Done:
    """What one command printed."""

    stdout: str
    stderr: str


@pytest.fixture
def run(database: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    def call(*arguments: str, noun: str = "task", rc: int = 0) -> Done:
        monkeypatch.setattr("sys.argv", ["stationmaster", noun, *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        done = Done(*capsys.readouterr())
        assert ended.value.code == rc, done.stderr
        return done

    return call


def create(*more: str, network: bool = True) -> list[str]:
    chosen = ["--network", "resnet18", "--pretraining", "none"] if network else []
    return ["create", "--dataset", "pets", "--name", "Pets", "--task-type", "single-label", "--json", *chosen, *more]


def plans_of(database: Database) -> list[dict[str, Any]]:
    with database.read() as session:
        return list(session.scalars(select(Job.plan).order_by(Job.number)))


def test_a_dataset_that_shows_nothing_is_refused_in_words(run: Any, add_dataset: Any, database: Database) -> None:
    """As everywhere else; a set of the same dataset that shows something is taken."""
    pets = add_dataset("pets", "single-label", "single-label")
    with database.write() as session:
        for one in session.scalars(select(AnnotationSet)):
            one.class_counts = [0, 0]
    refused = run(*create(), rc=1).stderr
    assert "No image of “pets” shows any of its classes: there is nothing to learn for single-label" in " ".join(refused.split())
    assert plans_of(database) == []
    with database.write() as session:
        session.get_one(AnnotationSet, pets.annotation_sets[1].id).class_counts = [0, 100]
    run(*create())
    with database.read() as session:
        assert session.scalar(select(Task.annotation_set_id)) == pets.annotation_sets[1].id


def test_an_annotation_set_is_named_everywhere_in_one_way(run: Any, add_dataset: Any, database: Database) -> None:
    """By name, id or kind; the name that the option had before still does."""
    pets = add_dataset("pets", "single-label", "single-label", "boxes")
    first, second, _ = pets.annotation_sets
    several = run(*create(), rc=2).stderr
    assert "“pets” has several annotation sets that fit. Give --annotation-set with one of: single-label 0" in " ".join(several.split())
    assert "several annotation sets “single-label” that fit" in run(*create("--annotation-set", "single-label"), rc=2).stderr
    assert "no annotation set “boxes” that fits" in run(*create("--annotation-set", "boxes"), rc=2).stderr
    for option, given in (("--annotation-set", first.name), ("--annotation-set", second.id), ("--annotations", second.name)):
        run(*create(option, given))
    with database.read() as session:
        assert list(session.scalars(select(Task.annotation_set_id).order_by(Task.created_at))) == [first.id, second.id, second.id]
    add_dataset("cells", "single-label", "boxes")
    run(*create("--dataset", "cells", "--annotation-set", "single-label"))


def test_a_model_to_retrain_brings_along_what_its_images_show_unless_something_is_said(
    run: Any, add_dataset: Any, database: Database
) -> None:
    add_dataset("pets")
    parent = json.loads(run(*create("--data-type", "photo", "--set", "image_size=96")).stdout)
    with database.write() as session:
        session.add(
            Model(
                workspace="default",
                name="Parent",
                task_id=parent["id"],
                task_type="single-label",
                network="resnet18",
                pretraining="none",
                classes=["cat", "dog"],
                metrics={},
                key="models/parent",
                created_by="cli:ada",
            )
        )
    again = ["create", "--dataset", "pets", "--model", "Parent", "--name"]
    assert "As “Parent” was trained: input size 96 px and random changes." in " ".join(run(*again, "A").stdout.split())
    assert "As “Parent”" not in run(*again, "B", "--data-type", "x-ray", "--set", "image_size=64").stdout
    with database.read() as session:
        plans = {row.name: row.plan for row in session.execute(select(Task.name, Job.plan).join(Job, Job.task_id == Task.id))}
    told = {name: (plan["image_size"], plan["resized_crop"], plan["horizontal_flip"]) for name, plan in plans.items()}
    assert told == {"Pets": (96, True, True), "A": (96, True, True), "B": (64, False, False)}


def test_the_annotation_set_of_a_task_is_told(run: Any, add_dataset: Any) -> None:
    pets = add_dataset("pets", "instances", "regions")
    chosen = ["--task-type", "object-segmentation", "--annotation-set", "regions", "--network", "unet-tf_efficientnet_lite0"]
    created = json.loads(run(*create(*chosen)).stdout)
    assert (created["annotation_set_id"], created["annotation_set"], created["annotation_kind"]) == (
        pets.annotation_sets[1].id,
        "regions 1",
        "regions",
    )
    shown = " ".join(run("show", "Pets").stdout.split())
    assert "Annotation set regions 1 (regions per class)" in shown and "Finds regions per class" in shown


@pytest.mark.parametrize(
    ("noun", "command", "expected"),
    [
        ("task", "create", [*FIELDS, "epochs: an integer from 1 to 200", "--annotation-set"]),
        ("model", "test", ["--annotation-set"]),
        ("dataset", "import", [reader.name for reader in READERS]),
    ],
)
def test_help_says_what_may_be_given(run: Any, noun: str, command: str, expected: list[str]) -> None:
    shown = " ".join(run(command, "--help", noun=noun).stdout.split()).replace("class- folders", "class-folders")
    assert [text for text in expected if text not in shown] == []
    assert "--annotations" not in shown


def test_a_grid_of_lists(run: Any, add_dataset: Any, database: Database) -> None:
    add_dataset("pets")
    facts = json.loads(run(*create("--tuning", "grid", "--set", "learning_rate=0.001,0.01", "--set", "momentum=0.8,0.9")).stdout)
    assert facts["tuning"] == "grid" and facts["jobs"]["total"] == 4
    assert facts["search"]["values"] == {"learning_rate": [0.001, 0.01], "weight_decay": [0.0], "momentum": [0.8, 0.9]}
    assert "learning_rate 0.001, 0.01; momentum 0.8, 0.9" in " ".join(run("show", "Pets").stdout.split())
    assert [(plan["learning_rate"], plan["momentum"]) for plan in plans_of(database)] == [
        (0.001, 0.8),
        (0.001, 0.9),
        (0.01, 0.8),
        (0.01, 0.9),
    ]


@pytest.mark.parametrize(("tuning", "early_stop"), [("random", True), ("population", False)])
def test_ranges_and_a_number_of_jobs(run: Any, add_dataset: Any, database: Database, tuning: str, early_stop: bool) -> None:
    add_dataset("pets")
    facts = json.loads(run(*create("--tuning", tuning, "--set", "learning_rate=1e-5..1e-2", "--set", "jobs=8")).stdout)
    assert facts["jobs"]["total"] == 8 and facts["search"]["ranges"]["learning_rate"] == [1e-5, 1e-2]
    assert all(1e-5 <= plan["learning_rate"] <= 1e-2 and plan["early_stop"] is early_stop for plan in plans_of(database))


def test_a_search_without_a_network_keeps_its_tuning(run: Any, add_dataset: Any, database: Database) -> None:
    """A network is suggested; what was asked for is still what is tried."""
    add_dataset("pets", images=400)
    facts = json.loads(run(*create("--tuning", "grid", "--set", "learning_rate=0.001,0.01", network=False)).stdout)
    assert facts["tuning"] == "grid" and facts["jobs"]["total"] == 2


@pytest.mark.parametrize("more", [(), ("--tuning", "manual")], ids=["auto", "manual"])
def test_a_network_is_suggested_among_those_that_start_from_what_is_asked(run: Any, add_dataset: Any, more: tuple[str, ...]) -> None:
    add_dataset("pets", images=400)
    facts = json.loads(run(*create("--pretraining", "none", *more, network=False)).stdout)
    assert facts["network"] and facts["pretraining"] == "none"
    assert "has the pre-training “nix” at hand" in run(*create("--pretraining", "nix", network=False), rc=2).stderr
    fixed = run(*create("--pretraining", "none", "--preset", "pneumothorax", network=False), rc=2)
    assert "--pretraining cannot be chosen in the flow specialized" in fixed.stderr


def test_create_says_what_it_trains_and_warns_where_weights_are_missing(run: Any, add_dataset: Any, settings: Settings) -> None:
    add_dataset("pets", images=400)
    words = ["create", "--dataset", "pets", "--name", "Pets", "--task-type", "single-label"]
    lacking = run(*words, "--network", "resnet18")
    assert "Pre-training  none (from scratch)" in lacking.stdout and "Network       resnet18" in lacking.stdout
    said = " ".join(lacking.stderr.split())
    assert "Warning: resnet18 learns without pre-trained weights." in said and "takes longer and many more images" in said
    assert "Put the file into" in said and "as resnet18." in said
    wanted = run(*words, "--network", "resnet18", "--pretraining", "none")
    assert "Warning" not in wanted.stderr
    suggested = run(*words)
    assert "Pre-training   imagenet-1k" in suggested.stdout and "Suggested for  " in suggested.stdout
    assert "Warning" not in suggested.stderr


def test_what_is_suggested_is_told_as_it_is_trained(run: Any, add_dataset: Any) -> None:
    add_dataset("pets", images=400)
    words = ["create", "--dataset", "pets", "--name", "Pets", "--task-type", "single-label"]
    values = [word for value in ("epochs=6", "image_size=32", "batch_size=16") for word in ("--set", value)]
    for tuning in ("manual", "auto"):
        said = " ".join(run(*words, *values, "--tuning", tuning).stdout.split())
        assert "an image at 32 px" in said and "at batch 16:" in said and "for 6 epochs" in said
    said = " ".join(run(*words, *values, "--tuning", "grid", "--set", "learning_rate=0.001,0.01").stdout.split())
    assert "for 6 epochs" in said and "for each of the 2 training jobs" in said


def test_one_class_is_trained_with_a_warning(run: Any, add_dataset: Any) -> None:
    add_dataset("pets", classes=("cat",))
    created = run(*create())
    assert json.loads(created.stdout)["state"] == "waiting"
    said = " ".join(created.stderr.split())
    assert "Warning: All images show only one class, “cat”: a model of it says the same of every image" in said
    add_dataset("both", "single-label", "boxes")
    assert "Warning" not in run(*(word.replace("pets", "both") for word in create())).stderr


def test_wait_says_what_is_noticed_while_there_is_time_to_stop(
    run: Any, add_dataset: Any, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_dataset("pets")
    slept = 0

    def meanwhile(_: float) -> None:
        nonlocal slept
        slept += 1
        if slept > 1:
            raise KeyboardInterrupt
        with database.write() as session:
            job = session.scalars(select(Job)).one()
            add_event(session, job.task_id, Noticed("It explodes.", "Take less."), job_id=job.id, generation=job.generation, sequence=99)

    monkeypatch.setattr("bot.terminal.commands.task.time", SimpleNamespace(sleep=meanwhile))
    said = " ".join(run(*create("--wait"), rc=130).stderr.split())
    assert "It explodes. Take less." in said and "goes on" in said


def test_names_come_whole_into_a_pipe(run: Any, add_dataset: Any) -> None:
    name = "The whole long name of a training, which scripts look for line by line " + "x" * 28
    add_dataset("pets")
    run("create", "--dataset", "pets", "--name", name, "--task-type", "single-label", "--network", "resnet18", "--pretraining", "none")
    (line,) = run("list").stdout.splitlines()[1:]
    assert name in line and "single-label  resnet18" in line


@pytest.mark.parametrize(
    ("hours", "jobs", "why"),
    [("0", 1, "the operator has set no budget"), ("0.0001", 1, "too few to search with"), ("1000", 24, "long enough for a population")],
)
def test_auto_says_what_it_took_and_why(
    run: Any, add_dataset: Any, monkeypatch: pytest.MonkeyPatch, hours: str, jobs: int, why: str
) -> None:
    add_dataset("pets")
    monkeypatch.setenv("STATIONMASTER_AUTO_GPU_HOURS", hours)
    said = " ".join(run(*(word for word in create("--set", "epochs=60") if word != "--json")).stdout.split())
    assert "Tuning auto" in said and f"Why {'The' if hours != '0' else 'The network'}" in said and why in said
    assert (f"Training jobs {jobs}" in said) is (jobs > 1)
    assert why in " ".join(run("show", "Pets").stdout.split())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            [
                "--tuning",
                "grid",
                "--set",
                "learning_rate=0.1,0.2,0.3,0.4,0.5,0.6",
                "--set",
                "momentum=0.7,0.8,0.9",
                "--set",
                "weight_decay=0,0.01,0.02",
            ],
            "6 learning rates × 3 weight decays × 3 momenta = 54 training jobs; a task has at most 48",
        ),
        (["--tuning", "random", "--set", "jobs=7"], "an integer from 8 to 48"),
        (["--tuning", "population", "--set", "early_stop=on"], "no hyperparameter “early_stop”"),
        (["--tuning", "population", "--set", "learning_rate=1e-5..1"], "both numbers from 0.000003 to 0.03"),
        (["--tuning", "manual", "--set", "learning_rate=0.1,0.2"], "takes a number from 0.000001 to 1"),
        (
            ["--tuning", "auto", "--set", "momentum=0.5"],
            "Momentum (momentum): tuning auto trains resnet18 by AdamW, which has none; “0.5” was given. "
            "Leave it out, or choose manual tuning, which trains by SGD.",
        ),
    ],
)
def test_refusals(run: Any, add_dataset: Any, given: list[str], message: str) -> None:
    add_dataset("pets")
    assert message in " ".join(run(*create(*given), rc=2).stderr.split())


def test_all_wrong_values_are_told_at_once_a_line_each(run: Any, add_dataset: Any, database: Database) -> None:
    add_dataset("pets")
    wrong = ("epochs=0", "learning_rate=fast", "nix=1", "batch_size", "image_size=5000", "seed=3")
    said = run(*create("--tuning", "manual", *(word for item in wrong for word in ("--set", item))), rc=2).stderr
    for line in (
        "--set takes key=value; “batch_size” was given.",
        "Training epochs (epochs) takes an integer from 1 to 200; “0” was given.",
        "Learning rate (learning_rate) takes a number from 0.000001 to 1; “fast” was given.",
        "There is no hyperparameter “nix”.",
        "Input size (image_size) takes auto, or an integer from 32 to 1024; “5000” was given.",
    ):
        assert line in [told.removeprefix("Error: ") for told in said.splitlines()]
    assert "seed" not in said.partition("There are: ")[0]
    assert plans_of(database) == []


def test_show_lists_every_job_and_one_job_its_epochs(
    run: Any, add_dataset: Any, database: Database, settings: Settings, ada: Actor, tmp_path: Path
) -> None:
    pets = add_dataset("pets")
    new = training_of(pets, workspace=ada.workspace, person=ada.person, name="Pets", plans=())
    population = Search(database, settings, new, Tuning.POPULATION, 5)
    for number, score in enumerate((0.1, 0.5, 0.9, 0.6, 0.7), 1):
        population.slice(number, score)
    population.claim(1)
    population.claim(5)
    population.do(5, fail_job, "It diverged.", "Lower it.")

    shown = run("show", "Pets")
    rows = [line.split() for line in shown.stdout.splitlines() if line[:1].isdigit()]
    assert [(row[0], row[-1]) for row in rows] == [("1", "0.1000"), ("2", "0.5000"), ("3", "0.9000"), ("4", "0.6000"), ("5", "0.7000")]
    assert rows[0][4] == "running" and rows[1][4] == "waiting" and rows[4][4:6] == ["ended", "early"]
    assert "After epoch 1 job 1 went on from job 3's weights with learning rate" in shown.stderr

    facts = json.loads(run("show", "Pets", "--json").stdout)
    assert [(job["number"], job["state"], job["score"], job["ended_early"]) for job in facts["job_list"]] == [
        (1, "running", 0.1, False),
        (2, "waiting", 0.5, False),
        (3, "waiting", 0.9, False),
        (4, "waiting", 0.6, False),
        (5, "finished", 0.7, True),
    ]
    assert [(copy["number"], copy["source"], copy["epoch"]) for copy in facts["lineage"]] == [(1, 3, 1)]
    assert facts["job_list"][0]["learning_rate"] == facts["lineage"][0]["after"]["learning_rate"]
    job = json.loads(run("show", "Pets", "--job", "3", "--json").stdout)
    assert [(epoch["number"], epoch["score"]) for epoch in job["epochs"]] == [(1, 0.9)]
    assert job["momentum"] == job["plan"]["momentum"]
    with database.write() as session:
        third = session.scalars(select(Job).where(Job.number == 3)).one()
        add_event(session, third.task_id, Noticed("It is odd.", "Look."), job_id=third.id, generation=third.generation, sequence=99)
    words = run("show", "Pets", "--job", "3").stdout
    lines = {line.split("  ")[0]: " ".join(line.split()) for line in words.splitlines()}
    assert lines["Best epoch"] == "Best epoch 1, score 90.0 %" and lines["State"] == "State waiting"
    (noticed,) = json.loads(run("show", "Pets", "--job", "3", "--json").stdout)["noticed"]
    assert (noticed["job"], noticed["message"]) == (3, "It is odd. Look.") and noticed["at"]
    assert re.fullmatch(r"Noticed \d{4}-\d\d-\d\d \d\d:\d\d: It is odd\. Look\.", lines["Noticed"])
    assert lines["Learning rate"].startswith("Learning rate 0.") and "Batch size" in lines
    assert "Epoch  Training loss" in words and "ended_early" not in words and "False" not in words and "Error" not in lines
    whole = " ".join(run("show", "Pets").stdout.split())
    assert "Noticed of job 3" in whole and ": It is odd. Look." in whole and "Input size" in whole
    run("show", "Pets", "--job", "3", "--picture", str(tmp_path / "curves.png"))
    run("show", "Pets", "--picture", str(tmp_path / "scores.png"), "--lineage", str(tmp_path / "lineage.png"))
    assert all(Image.open(tmp_path / f"{name}.png").width > 1000 for name in ("curves", "scores", "lineage"))
    assert "It has 5, counted from 1" in run("show", "Pets", "--job", "6", rc=1).stderr
    with database.read() as session:
        assert session.scalars(select(Task.state)).one() == "running"


def test_the_best_epoch_is_the_one_that_became_the_model(
    run: Any, add_dataset: Any, database: Database, settings: Settings, ada: Actor
) -> None:
    """All have the same score: training keeps the one with the lowest loss."""
    new = training_of(add_dataset("pets"), workspace=ada.workspace, person=ada.person, name="Pets", plans=())
    grid = Search(database, settings, new, Tuning.GRID, 1)
    grid.claim(1)
    for loss in (2.0, 1.5, 1.2, 1.4):
        grid.epoch(1, 0.0, loss)
    assert "Best epoch 3, score 0.0 %" in " ".join(run("show", "Pets", "--job", "1").stdout.split())
    assert json.loads(run("show", "Pets", "--job", "1", "--json").stdout)["best_epoch"] == 3


def test_of_a_running_task_it_is_shown_how_far_it_is(run: Any, add_dataset: Any, database: Database) -> None:
    add_dataset("pets")
    run(*create("--set", "epochs=20"))
    with database.write() as session:
        job = session.scalars(select(Job)).one()
        claim_job(session, job.id, 1, worker="w", device="an old CPU")
    words = ("show", "Pets")
    assert "Progress started on an old CPU; preparing the images" in " ".join(run(*words).stdout.split())
    facts = json.loads(run(*words, "--json").stdout)
    assert (facts["seconds_left"], facts["job_list"][0]["progress"]) == (None, None)
    with database.write() as session:
        record_event(session, job.id, 1, Progress(3, 20, 1, 2, 0.125, 0.5, 0.1, 9.0, seconds_left=240.0), sequence=1)
        heartbeat(session, job.id, 1, device_seconds=50.0)
    for more in ((), ("--job", "1")):
        assert "Progress 12% · epoch 3 of 20, about 4 min left" in " ".join(run(*words, *more).stdout.split())
    whole = run(*words).stdout
    assert "Training so far" in whole and "Training took" not in whole
    facts = json.loads(run(*words, "--json").stdout)
    told = facts["job_list"][0]["progress"]
    assert (facts["seconds_left"], told["epoch"], told["epochs"], told["fraction"]) == (240.0, 3, 20, 0.125)
    with database.write() as session:
        hand_back(session, job.id, 1)
        claim_job(session, job.id, 2, worker="w", device="another CPU")
    assert "Progress started on another CPU" in " ".join(run(*words).stdout.split())
    with database.write() as session:
        fail_job(session, job.id, 2, "It diverged.", "Lower it.")
    ended = run(*words).stdout
    assert "Training took 50 s" in " ".join(ended.split()) and "Progress" not in ended
    assert json.loads(run(*words, "--job", "1", "--json").stdout)["progress"] is None


def test_of_a_running_search_it_is_shown_how_far_all_jobs_are(
    run: Any, add_dataset: Any, database: Database, settings: Settings, ada: Actor
) -> None:
    new = training_of(add_dataset("pets"), workspace=ada.workspace, person=ada.person, name="Pets", plans=())
    population = Search(database, settings, new, Tuning.POPULATION, 2)
    population.slice(1, 0.5)
    population.claim(2)
    assert "Progress 1 of 40 epochs of all jobs, about 39 s left" in " ".join(run("show", "Pets").stdout.split())
    assert json.loads(run("show", "Pets", "--json").stdout)["seconds_left"] == 39


def test_a_retraining_and_its_model_say_what_they_were_retrained_from(
    run: Any, add_dataset: Any, database: Database, settings: Settings, ada: Actor
) -> None:
    pets = add_dataset("pets")
    with database.write() as session:
        parent = stripes_model(workspace=ada.workspace, name="Old pets")
        session.add(parent)
        session.flush()
        new = training_of(pets, workspace=ada.workspace, person=ada.person, name="Pets", flow="retraining", source_model_id=parent.id)
        create_task(session, settings, new)
        session.add(stripes_model(workspace=ada.workspace, name="New pets", parent_id=parent.id))

    def told() -> list[Any]:
        task, model = run("show", "Pets", "--json"), run("show", "New pets", "--json", noun="model")
        (listed,) = [one for one in json.loads(run("list", "--json", noun="model").stdout) if one["name"] == "New pets"]
        return [json.loads(task.stdout)["source_model"], json.loads(model.stdout)["parent"], listed["parent"]]

    assert told() == ["Old pets"] * 3
    assert json.loads(run("show", "Pets", "--json").stdout)["source_model_id"] == parent.id
    for shown in (run("show", "Pets"), run("show", "New pets", noun="model")):
        assert "Retrained from Old pets" in " ".join(shown.stdout.split())
    assert "Retrained from" not in run("show", "Old pets", noun="model").stdout
    with database.write() as session:
        session.delete(session.get_one(Model, parent.id))
    assert told() == ["a deleted model"] * 3
    for shown in (run("show", "Pets"), run("show", "New pets", noun="model")):
        assert "Retrained from a deleted model" in " ".join(shown.stdout.split())


@pytest.fixture
def interrupted(add_dataset: Any, database: Database, settings: Settings, ada: Actor) -> Callable[..., Task]:
    """A training whose worker handed it back after so many epochs; a younger one waits beside it."""

    def make(epochs: int) -> Task:
        with database.write() as session:
            task = create_task(session, settings, training_of(add_dataset("pets"), name="Pets", plans=[TrainingPlan(epochs=10)]))
            job = session.scalars(select(Job)).one()
            claim_job(session, job.id, 1, worker="w", device="CPU, 1 core")
            for number in range(1, epochs + 1):
                told = Progress(
                    epoch=number, epochs=10, step=1, steps=1, fraction=number / 10, loss=1, learning_rate=0.1, images_per_second=9
                )
                record_epoch(
                    session,
                    job.id,
                    1,
                    number,
                    {"score": 0.5, "val_loss": 1.0},
                    score=0.5,
                    metrics={"accuracy": 0.5},
                    is_best=True,
                    event=told,
                    sequence=number,
                )
            hand_back(session, job.id, 1)
        return task

    return make


def test_an_interrupted_training_says_that_it_waits_and_where_it_goes_on(run: Any, interrupted: Any) -> None:
    interrupted(3)
    shown = " ".join(run("show", "Pets").stdout.split())
    assert "Progress waits for a worker; goes on after epoch 3" in shown
    assert "Progress waits for a worker; goes on after epoch 3" in " ".join(run("show", "Pets", "--job", "1").stdout.split())


def test_stop_of_what_no_worker_holds_says_who_makes_the_model(run: Any, interrupted: Any) -> None:
    interrupted(3)
    assert "“Pets” is stopping: the next free worker makes its model of the best epoch." in run("stop", "Pets").stderr
    shown = " ".join(run("show", "Pets").stdout.split())
    assert "Progress waits for a worker; the next free worker makes its model of the best epoch" in shown
    assert "preparing" not in shown
    assert "“Pets” is stopped." in run("stop", "Pets", "--discard").stderr


@pytest.mark.parametrize(
    ("epochs", "more", "why"),
    [(0, (), "no epoch had been saved yet"), (3, ("--discard",), "what was learnt was thrown away, as asked")],
    ids=["no epoch", "discard"],
)
def test_stop_of_what_leaves_no_model_is_at_once_and_says_why_there_is_none(
    run: Any, interrupted: Any, epochs: int, more: tuple[str, ...], why: str
) -> None:
    interrupted(epochs)
    assert json.loads(run("stop", "Pets", "--json", *more).stdout)["state"] == "stopped"
    assert f"State stopped, without a model: {why}" in " ".join(run("show", "Pets").stdout.split())


def test_show_tells_no_momentum_of_an_optimizer_that_has_none(run: Any, add_dataset: Any) -> None:
    """As `--set momentum` is refused there."""
    add_dataset("pets")
    run(*create("--tuning", "auto"))
    job = json.loads(run("show", "Pets", "--json").stdout)["job_list"][0]
    assert job["plan"]["optimizer"] == "adamw" and job["momentum"] is None and job["weight_decay"] > 0
    assert "Momentum 0" not in " ".join(run("show", "Pets", "--job", "1").stdout.split())


def test_a_copy_is_told_without_a_momentum_that_its_optimizer_has_not(
    run: Any, add_dataset: Any, database: Database, settings: Settings, ada: Actor
) -> None:
    """As of the populations that auto makes of AdamW."""
    new = training_of(add_dataset("pets"), workspace=ada.workspace, person=ada.person, name="Pets", plans=())
    population = Search(database, settings, new, Tuning.POPULATION, 5, optimizer="adamw")
    for number, score in enumerate((0.1, 0.5, 0.9, 0.6, 0.7), 1):
        population.slice(number, score)
    population.claim(1)
    (copy,) = json.loads(run("show", "Pets", "--json").stdout)["lineage"]
    for values in (copy["before"], copy["after"]):
        assert values["learning_rate"] > 0 and values["momentum"] is None
    told = " ".join(run("show", "Pets").stderr.split())
    assert "with learning rate" in told and "momentum" not in told


def test_show_tells_of_a_lost_worker(run: Any, add_dataset: Any, database: Database, settings: Settings) -> None:
    with database.write() as session:
        create_task(session, settings, training_of(add_dataset("pets"), name="Pets"))
        job = session.scalars(select(Job)).one()
        claim_job(session, job.id, 1, worker="w", device="CPU")
        lose_job(session, settings, job.id, 1, "its process is gone")
    told = "The worker was lost (its process is gone). The training goes on from epoch 0 on the next free worker."
    assert re.search(rf"Noticed \d{{4}}-\d\d-\d\d \d\d:\d\d: {re.escape(told)}", " ".join(run("show", "Pets").stdout.split()))
    noticed = json.loads(run("show", "Pets", "--json").stdout)["noticed"]
    assert [(one["job"], one["message"]) for one in noticed] == [(None, told)] and noticed[0]["at"]
