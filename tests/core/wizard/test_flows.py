"""Specialized training and retraining: what the application or the model brings along is not asked, and what does not match is told."""

import pytest
from new_tasks import training_of
from sqlalchemy import select

from core.access import Actor, Place
from core.db.session import Database
from core.db.tables import Annotation, DatasetImage, Job, Model, Task
from core.settings import Settings
from core.storage import Storage
from core.tasks.creation import create_task
from core.tasks.hyperparameters import TrainingPlan
from core.vocabulary import Tuning
from core.wizard.conversation import Conversation, Press
from core.wizard.screens import Facts, Screen, Text
from core.wizard.steps.model import LINE_HINT, _line
from core.zoo import catalogue, weights


class Walk:
    """Presses on one conversation; `screen` is what is seen."""

    def __init__(self, conversation: Conversation, actor: Actor, place: Place) -> None:
        self.conversation, self.actor = conversation, actor
        self.screen = conversation.begin(actor, place)

    def press(self, action: str, value: str = "") -> Screen:
        self.screen = self.conversation.handle(self.actor, Press(self.screen.draft_id, self.screen.version, action, value))
        return self.screen

    @property
    def words(self) -> str:
        parts = [self.screen.title, self.screen.notice.body if self.screen.notice else ""]
        for block in self.screen.blocks:
            if isinstance(block, Text):
                parts.append(block.body)
            elif isinstance(block, Facts):
                parts += [block.title, *(f"{name}: {value}" for name, value in block.rows)]
        return "\n".join(parts)

    def menus(self) -> set[str]:
        return {menu.action for menu in self.screen.menus()}


@pytest.fixture
def walk(database: Database, storage: Storage, settings: Settings, ada: Actor, place: Place) -> Walk:
    return Walk(Conversation(database, storage, settings), ada, place)


@pytest.fixture
def model(database: Database) -> Model:
    model = Model(
        workspace="default",
        name="Pets",
        task_type="single-label",
        network="tf_efficientnet_lite0",
        pretraining="imagenet-1k",
        classes=["cat", "dog", "horse"],
        metrics={},
        key="models/pets",
        created_by="terminal:ada",
    )
    with database.write() as session:
        session.add(model)
    return model


def test_specialized_training_end_to_end(walk: Walk, add_dataset, database: Database) -> None:
    chests = add_dataset("chests", classes=("Pneumothorax", "no finding"))
    asked = set()
    walk.press("choose:flow", "specialized")
    walk.press("next")
    walk.press("choose:preset", "pneumothorax")
    assert "PTX, normal" in walk.words
    assert "tf_efficientnet_lite1" in walk.words
    walk.press("next")
    walk.press("choose:dataset", chests.id)
    while walk.screen.title != "Everything right?":
        asked |= walk.menus()
        walk.press("next")
    assert not {"choose:data-type", "choose:preference", "choose:network", "choose:family"} & asked
    assert "Application: Pneumothorax on chest X-ray" in walk.words
    walk.press("start")
    with database.read() as session:
        task = session.scalars(select(Task)).one()
        job = session.scalars(select(Job)).one()
    assert (task.flow, task.preset, task.network, task.pretraining) == (
        "specialized",
        "pneumothorax",
        "tf_efficientnet_lite1",
        "imagenet-1k",
    )
    assert (job.plan["rotation"], job.plan["rotation_degrees"]) == (True, 7)


def test_a_dataset_whose_classes_do_not_match_is_told_what_is_missing(walk: Walk, add_dataset, database: Database) -> None:
    wrong = add_dataset("wrong", classes=("normal", "effusion"))
    walk.press("choose:flow", "specialized")
    walk.press("next")
    walk.press("choose:preset", "pneumothorax")
    walk.press("next")
    walk.press("choose:dataset", wrong.id)
    assert "lack PTX" in walk.words
    walk.press("next")
    assert walk.screen.title == "Which dataset?"
    assert "lack PTX" in walk.words


def test_retraining_end_to_end_says_what_becomes_of_the_classes(walk: Walk, add_dataset, model: Model, database: Database) -> None:
    pets = add_dataset("pets", classes=("dog", "cat", "rabbit"))
    asked = set()
    walk.press("choose:flow", "retraining")
    walk.press("next")
    walk.press("choose:source-model", model.id)
    walk.press("next")
    walk.press("choose:dataset", pets.id)
    assert "2 of the model's 3 classes are kept" in walk.words
    assert "new: rabbit" in walk.words
    assert "dropped: horse" in walk.words
    while walk.screen.title != "Everything right?":
        asked |= walk.menus()
        walk.press("next")
    assert not {"choose:data-type", "choose:preference", "choose:network", "choose:family"} & asked
    assert "Learns on from: Pets" in walk.words
    walk.press("start")
    with database.read() as session:
        task = session.scalars(select(Task)).one()
    assert (task.flow, task.source_model_id, task.network) == ("retraining", model.id, "tf_efficientnet_lite0")


@pytest.mark.parametrize(("known", "auto"), [(True, True), (True, False), (False, True)])
def test_a_model_that_learns_on_keeps_its_input_size_and_what_its_images_show(
    walk: Walk, add_dataset, model: Model, database: Database, settings: Settings, known: bool, auto: bool
) -> None:
    """Whatever had been said of other images before, in general training; where the model's task is gone nobody knows."""
    pets = add_dataset("pets")
    # As an application trains: otherwise than auto would images of that kind.
    plan = TrainingPlan(image_size=96, rotation=True, rotation_degrees=30, horizontal_flip=True, resized_crop=False, colour_jitter=False)
    with database.write() as session:
        trained = create_task(
            session,
            settings,
            training_of(pets, plans=[plan], suggestion={"data_type": "aerial"}, tuning=Tuning.AUTO if auto else Tuning.MANUAL),
        )
        session.merge(model).task_id = trained.id if known else "gone"
    walk.press("next")
    walk.press("choose:task-type", "single-label")
    walk.press("next")
    walk.press("choose:dataset", pets.id)
    walk.press("next")
    walk.press("choose:data-type", "photo")
    for _ in range(3):
        walk.press("back")
    walk.press("choose:flow", "retraining")
    walk.press("next")
    walk.press("choose:source-model", model.id)
    while walk.screen.title != "Everything right?":
        walk.press("next")
    told = f"As “Pets” was trained: input size 96 px{' and random changes' if auto else ''}."
    assert (told in walk.words) == known and ("Input size: 96 × 96 px" in walk.words) == known
    walk.press("start")
    with database.read() as session:
        task = session.scalars(select(Task).where(Task.flow == "retraining")).one()
        plan = session.scalars(select(Job.plan).where(Job.task_id == task.id)).one()
    changes = (plan["rotation"], plan["rotation_degrees"], plan["horizontal_flip"], plan["colour_jitter"])
    if not known:
        assert changes[0] is changes[2] is False
    else:  # what a person had typed is not taken over, what the images show is
        assert changes == ((True, 30, True, False) if auto else (True, 180, True, True))
    assert task.suggestion == {"data_type": "aerial" if known else "other"}  # for whatever learns on from this one


def test_the_review_warns_of_a_single_class_and_starts_all_the_same(walk: Walk, add_dataset, model: Model) -> None:
    pets = add_dataset("pets", classes=("cat",))
    walk.press("choose:flow", "retraining")
    walk.press("next")
    walk.press("choose:source-model", model.id)
    walk.press("next")
    walk.press("choose:dataset", pets.id)
    while walk.screen.title != "Everything right?":
        walk.press("next")
    assert "All images show only one class, “cat”" in walk.words
    assert walk.press("start").task_id


def test_the_operators_own_application_is_offered(walk: Walk, settings: Settings) -> None:
    (settings.home / "presets").mkdir(parents=True)
    (settings.home / "presets" / "moles.toml").write_text(
        'title = "Moles"\ndescription = "Which kind of mole."\ntask_type = "single-label"\ndata_type = "photo"\n'
        'classes = ["naevus", "melanoma"]\nnetworks = ["resnet18.none"]\n'
    )
    walk.press("choose:flow", "specialized")
    walk.press("next")
    assert "moles" in {option.value for menu in walk.screen.menus() for option in menu.options}


def test_an_application_whose_weights_cannot_be_had_is_told_before_the_start_and_may_do_without(
    walk: Walk, settings: Settings, add_dataset, database: Database
) -> None:
    (settings.home / "presets").mkdir(parents=True)
    (settings.home / "presets" / "moles.toml").write_text(
        'title = "Moles"\ndescription = "Which kind of mole."\ntask_type = "single-label"\ndata_type = "photo"\n'
        'classes = ["naevus", "melanoma"]\nnetworks = ["resnet18.imagenet-1k"]\n'
    )
    moles = add_dataset("moles", classes=("naevus", "melanoma"))
    walk.press("choose:flow", "specialized")
    walk.press("next")
    walk.press("choose:preset", "moles")
    assert "resnet18.imagenet-1k are not at hand" in walk.words
    walk.press("next")
    assert walk.screen.title == "Which application?"
    walk.press("choose:from-scratch")
    assert "None (from scratch)" in walk.words
    walk.press("next")
    walk.press("choose:dataset", moles.id)
    while walk.screen.title != "Everything right?":
        walk.press("next")
    walk.press("start")
    with database.read() as session:
        task = session.scalars(select(Task)).one()
    assert (task.network, task.pretraining) == ("resnet18", "none")


def test_weights_that_cannot_be_had_are_told_with_a_button_to_do_without(walk: Walk, add_dataset) -> None:
    pets = add_dataset("pets")
    for action, value in (
        ("next", ""), ("choose:task-type", "single-label"), ("next", ""), ("choose:dataset", pets.id), ("next", ""),
        ("choose:selection", "manual"), ("choose:family", "ResNet"), ("choose:network", "resnet18"),
    ):  # fmt: skip
        walk.press(action, value)
    assert "pre-trainings is at hand here: it learns from scratch" in walk.words
    walk.press("choose:pretraining", "imagenet-1k")
    assert "resnet18.imagenet-1k are not at hand" in walk.words
    walk.press("next")
    assert walk.screen.title == "Which network?"
    button = next(item for item in walk.screen.controls if getattr(item, "label", "") == "Train from scratch")
    walk.press(button.action, button.value)
    walk.press("next")
    assert walk.screen.title != "Which network?"


def test_every_line_to_compare_by_fits_a_menu_of_slack() -> None:
    for spec in catalogue.entries():
        if spec.licence in weights.ALLOWED_LICENCES or not spec.licence:
            assert len(_line(spec, "not at hand")) <= 75, spec.name


def test_a_line_tells_speeds_of_gpus_from_those_of_a_cpu() -> None:
    published, measured = catalogue.find_spec("resnet50.none"), catalogue.find_spec("unet-resnet50.none")
    assert "CPU" not in _line(published) and "/s CPU" in _line(measured)
    assert "GPU" in LINE_HINT and "CPU" in LINE_HINT


def test_the_review_warns_of_objects_too_small_to_be_found(walk: Walk, add_dataset, database: Database) -> None:
    """Of 40 px on pictures of 8,000: at the largest side there is they are 5 px large."""
    yard = add_dataset("yard", "boxes", classes=("car",))
    with database.write() as session:
        chosen = yard.annotation_sets[0]
        session.add(DatasetImage(dataset_id=yard.id, position=0, path="a", key="a", width=8000, height=8000, sha256="0"))
        session.add(Annotation(annotation_set_id=chosen.id, position=0, value={"boxes": [[0, 10, 10, 40, 40]]}))
        session.merge(yard).median_width = 8000
    walk.press("choose:flow", "general")
    walk.press("next")
    walk.press("choose:task-type", "object-detection")
    walk.press("next")
    walk.press("choose:dataset", yard.id)
    while walk.screen.title != "Everything right?":
        before = walk.screen.version
        if "choose:data-type" in walk.menus():
            walk.press("choose:data-type", "aerial")
        walk.press("next")
        assert walk.screen.version > before
    assert "At an input size of 1024 px half of the objects are less than 6 px large" in walk.words
    assert "Input size: 1024 × 1024 px" in walk.words
    assert walk.press("start").task_id
