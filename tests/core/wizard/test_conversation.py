"""The wizard as a person meets it: presses in, screens out, over a real database."""

from datetime import timedelta

import pytest
from sqlalchemy import func, select, update

from core.access import Actor, Place
from core.clock import now
from core.db.session import Database
from core.db.tables import AnnotationSet, Draft, Job, Outbox, Task
from core.errors import NotAllowedError, NotFoundError
from core.settings import Settings
from core.storage import Storage
from core.tasks.hyperparameters import TrainingPlan
from core.wizard.conversation import Conversation, Press, expire_drafts
from core.wizard.screens import Button, Facts, Form, Menu, Picture, Screen, Text


class Person:
    """Presses what stands on the screen, as people do; `screen` is what they see."""

    def __init__(self, conversation: Conversation, actor: Actor, place: Place) -> None:
        self.conversation, self.actor, self.place = conversation, actor, place
        self.screen = conversation.begin(actor, place)

    def press(self, action: str, value: str = "", **values: str) -> Screen:
        press = Press(self.screen.draft_id, self.screen.version, action, value, values)
        self.screen = self.conversation.handle(self.actor, press)
        return self.screen

    def to_dataset(self, task_type: str = "single-label") -> Screen:
        self.press("next")
        self.press("choose:task-type", task_type)
        return self.press("next")

    def to_model(self, dataset_id: str) -> Screen:
        self.to_dataset()
        self.press("choose:dataset", dataset_id)
        return self.press("next")

    def to_manual_tuning(self, dataset_id: str) -> Screen:
        self.to_model(dataset_id)
        self.press("choose:selection", "manual")
        self.press("choose:family", "ResNet")
        self.press("choose:network", "resnet18")
        self.press("choose:pretraining", "none")
        self.press("next")
        return self.press("choose:tuning", "manual")

    def to_review(self, dataset_id: str) -> Screen:
        self.to_model(dataset_id)
        self.press("choose:data-type", "photo")
        self.press("next")
        return self.press("next")


@pytest.fixture
def conversation(database: Database, storage: Storage, settings: Settings) -> Conversation:
    return Conversation(database, storage, settings)


@pytest.fixture
def person(conversation: Conversation, ada: Actor, place: Place) -> Person:
    return Person(conversation, ada, place)


def menu(screen: Screen, action: str) -> Menu:
    return next(item for item in screen.menus() if item.action == action)


def form(screen: Screen, title: str) -> Form:
    return next(item for item in screen.forms() if item.title.startswith(title))


def words(screen: Screen) -> str:
    """Everything that can be read on a screen."""
    parts = [screen.title, screen.notice.body if screen.notice else ""]
    for block in screen.blocks:
        if isinstance(block, Text):
            parts.append(block.body)
        elif isinstance(block, Facts):
            parts += [block.title, *(f"{name}: {value}" for name, value in block.rows)]
        elif isinstance(block, Picture):
            parts.append(block.alt)
    return "\n".join(parts)


def count(database: Database, table: type) -> int:
    with database.read() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


# ---------------------------------------------------------------- the way


def test_general_training_from_first_press_to_a_queued_task(person: Person, add_dataset, database: Database) -> None:
    pets = add_dataset("pets")
    assert [option.value for option in menu(person.screen, "choose:flow").options] == ["general", "specialized", "retraining"]
    person.to_review(pets.id)
    assert "Dataset: pets (100 images, 2 classes)" in words(person.screen)
    assert "Training jobs: 1" in words(person.screen)
    screen = person.press("start")
    assert screen.ended
    with database.read() as session:
        task = session.scalars(select(Task)).one()
        assert (task.id, task.state, task.dataset_id, task.task_type, task.tuning) == (
            screen.task_id,
            "waiting",
            pets.id,
            "single-label",
            "auto",
        )
        job = session.scalars(select(Job)).one()
        TrainingPlan.model_validate(job.plan)
        assert session.scalars(select(Outbox)).one().job_id == job.id


def test_every_screen_shows_where_the_person_is(person: Person, add_dataset) -> None:
    pets = add_dataset("pets")
    assert [(step.title, step.state) for step in person.screen.steps] == [("Dataset", "current"), ("Model", "ahead"), ("Start", "ahead")]
    person.to_review(pets.id)
    assert [step.state for step in person.screen.steps] == ["done", "done", "current"]


def test_task_types_come_in_their_order_with_a_line_of_explanation(person: Person) -> None:
    person.press("next")
    options = menu(person.screen, "choose:task-type").options
    assert [option.value for option in options] == ["single-label", "multi-label", "object-detection", "object-segmentation"]
    assert options[2].hint == "images with bounding boxes"


def test_a_suggestion_comes_with_its_reasons(person: Person, add_dataset) -> None:
    pets = add_dataset("pets")
    person.to_model(pets.id)
    screen = person.press("choose:data-type", "photo")
    assert "We suggest" in words(screen)
    assert "Why: " in words(screen)


def test_next_without_an_answer_says_what_is_missing(person: Person, add_dataset) -> None:
    pets = add_dataset("pets")
    person.press("next")
    assert "Choose a task type first." in words(person.press("next"))
    person.press("choose:task-type", "single-label")
    person.press("next")
    assert "Choose a dataset first." in words(person.press("next"))
    person.press("choose:dataset", pets.id)
    person.press("next")
    assert "Say what your images show first." in words(person.press("next"))


def test_back_loses_nothing(person: Person, add_dataset) -> None:
    pets = add_dataset("pets")
    person.to_manual_tuning(pets.id)
    person.press("submit:data-loader", epochs="7", batch_size="16")
    person.press("next")
    person.press("submit:name", name="My pets", description="for the clinic", model_name="")
    for _ in range(5):
        person.press("back")
    assert person.screen.title == "What kind of training?"
    for _ in range(6):
        person.press("next")
    text = words(person.screen)
    assert person.screen.title == "Everything right?"
    for expected in ("Name: My pets", "Description: for the clinic", "Network: resnet18", "Epochs: 7", "Batch size: 16", "Dataset: pets"):
        assert expected in text


def cancel(person: Person) -> Button:
    return next(button for button in person.screen.buttons() if button.action == "cancel")


def test_cancel_starts_nothing_and_says_how_to_begin_again(person: Person, add_dataset, database: Database) -> None:
    pets = add_dataset("pets")
    assert cancel(person).confirm is None, "nothing is lost yet"
    person.to_review(pets.id)
    assert cancel(person).confirm is not None
    screen = person.press("cancel")
    assert screen.ended and "stationmaster" not in words(screen) and "nothing was started" in words(screen) and "/train" in words(screen)
    assert count(database, Task) == 0
    assert person.press("start").ended
    assert count(database, Task) == 0


# ---------------------------------------------------------------- flows without choices yet


def test_retraining_without_models_says_so(person: Person) -> None:
    person.press("choose:flow", "retraining")
    screen = person.press("next")
    assert "no finished model" in words(screen) and not list(screen.menus())
    assert [step.title for step in screen.steps] == ["Dataset", "Hyperparameters", "Start"]
    assert "Choose a model first" in words(person.press("next"))


def test_data_type_and_preference_are_never_asked_outside_general_training(person: Person) -> None:
    from core.wizard.draft import Choices
    from core.wizard.steps import STEPS

    for flow in ("specialized", "retraining"):
        names = [step.name for step in STEPS if step.applies(Choices(flow=flow))]
        assert "model" not in names and "hyperparameters" in names


# ---------------------------------------------------------------- datasets


def test_only_datasets_that_fit_are_listed(person: Person, add_dataset) -> None:
    add_dataset("pets", "single-label")
    add_dataset("cells", "boxes")
    add_dataset("half done", "single-label", state="importing")
    add_dataset("other team's", "single-label", workspace="elsewhere")
    person.to_dataset("single-label")
    assert [option.label for option in menu(person.screen, "choose:dataset").options] == ["pets"]


def test_a_dataset_that_shows_nothing_is_neither_listed_nor_taken(person: Person, add_dataset, database: Database) -> None:
    add_dataset("Pets")
    nothing = add_dataset("Nothing")
    with database.write() as session:
        session.get_one(AnnotationSet, nothing.annotation_sets[0].id).class_counts = [0, 0]
    person.to_dataset()
    assert [option.label for option in menu(person.screen, "choose:dataset").options] == ["Pets"]
    person.press("choose:dataset", nothing.id)
    assert "No image of “Nothing” shows any of its classes" in words(person.screen)


def test_no_fitting_dataset_says_how_to_import_one(person: Person) -> None:
    screen = person.to_dataset("object-detection")
    assert "it needs boxes" in words(screen) and "dataset import" in words(screen)


def test_a_chosen_dataset_shows_its_examples_classes_and_counts(person: Person, add_dataset) -> None:
    pets = add_dataset("pets", images=171)
    person.to_dataset()
    screen = person.press("choose:dataset", pets.id)
    assert "cat (85)" in words(screen) and "Images 1–50 of 171" in words(screen)
    screen = person.press("choose:preview-page", "4")
    assert "Images 151–171 of 171" in words(screen)
    assert next(button.label for button in screen.buttons()) == "◀ Previous images"


def test_of_several_annotation_sets_one_is_picked(person: Person, add_dataset) -> None:
    pets = add_dataset("pets", "single-label", "boxes", "single-label")
    person.to_dataset()
    person.press("choose:dataset", pets.id)
    assert "Choose which annotation set" in words(person.press("next"))
    options = menu(person.screen, "choose:annotation-set").options
    assert [option.label for option in options] == ["single-label 0", "single-label 2"]
    person.press("choose:annotation-set", options[1].value)
    assert person.press("next").title == "Which network?"


def test_the_review_tells_the_annotation_set_and_what_comes_out(person: Person, add_dataset) -> None:
    """Both kinds of masks are for object segmentation, and a network for regions takes instances, too, without telling objects apart."""
    coco = add_dataset("coco", "instances", "regions")
    person.to_dataset("object-segmentation")
    person.press("choose:dataset", coco.id)
    person.press("choose:annotation-set", coco.annotation_sets[0].id)
    person.press("next")
    person.press("choose:data-type", "photo")
    person.press("next")
    text = words(person.press("next"))
    assert "Annotation set: instances 0 (instances)" in text and "Finds: single objects with their masks" in text
    while person.screen.title != "Which network?":
        person.press("back")
    person.press("choose:selection", "manual")
    person.press("choose:family", "U-Net")
    person.press("choose:network", "unet-tf_efficientnet_lite0")
    assert "Finds: regions per class, which do not tell its objects apart" in words(person.press("choose:pretraining", "none"))
    while person.screen.title != "Everything right?":
        person.press("next")
    text = words(person.screen)
    assert "Annotation set: instances 0 (instances)" in text and "Finds: regions per class" in text


def test_the_only_annotation_set_that_fits_is_not_told(person: Person, add_dataset) -> None:
    person.to_review(add_dataset("pets", "single-label", "boxes").id)
    assert "Annotation set" not in words(person.screen) and "Finds" not in words(person.screen)


def test_a_dataset_that_vanishes_in_mid_way_sends_back_to_the_choice(person: Person, add_dataset, database: Database) -> None:
    pets = add_dataset("pets")
    person.to_review(pets.id)
    with database.write() as session:
        session.delete(session.merge(pets))
    screen = person.press("start")
    assert not screen.ended and screen.title == "Which dataset?"
    assert "no longer possible" in words(screen) or "No dataset" in words(screen)
    assert count(database, Task) == 0


def test_long_lists_are_searched_not_shown_whole(person: Person, conversation: Conversation, ada: Actor, add_dataset) -> None:
    for number in range(130):
        add_dataset(f"set {number:03d}")
    screen = person.to_dataset()
    shown = menu(screen, "choose:dataset")
    assert (len(shown.options), shown.total) == (100, 130)
    page = conversation.options(ada, screen.draft_id, "choose:dataset", "SET 12")
    assert [option.label for option in page.options] == [f"set {number}" for number in range(120, 130)]


# ---------------------------------------------------------------- typed values


def test_each_bad_value_names_field_range_and_what_was_given_and_nothing_entered_is_lost(person: Person, add_dataset) -> None:
    pets = add_dataset("pets")
    person.to_manual_tuning(pets.id)
    screen = person.press("submit:data-loader", epochs="201", batch_size="16", validation_percent="abc")
    shown = {field.name: field for field in form(screen, "Data loader").fields}
    assert shown["epochs"].error == "Training epochs (epochs) takes an integer from 1 to 200; “201” was given."
    assert shown["epochs"].value == "201"
    assert "an integer from 1 to 99; “abc” was given" in shown["validation_percent"].error
    assert shown["batch_size"].value == "16" and not shown["batch_size"].error
    assert "an integer from 1 to 200; “201” was given" in words(person.press("next"))
    person.press("submit:data-loader", epochs="20", validation_percent="25")
    person.press("next")
    assert "Epochs: 20" in words(person.press("next"))


def test_an_input_size_that_the_network_does_not_take_is_refused_where_it_is_typed(person: Person, add_dataset) -> None:
    """And asked anew of another network: what ResNet takes, a ViT may not."""
    person.to_manual_tuning(add_dataset("pets").id)
    assert not form(person.press("submit:data-loader", image_size="100"), "Data loader").errors
    person.press("back")
    person.press("choose:family", "ViT")
    person.press("choose:network", "vit_tiny_patch16_224")
    person.press("choose:pretraining", "none")
    for screen in (person.press("next"), person.press("submit:data-loader", image_size="100")):
        refusal = "Input size (image_size): vit_tiny_patch16_224 takes 32 px or more, in steps of 16; “100” was given."
        field = next(field for field in form(screen, "Data loader").fields if field.name == "image_size")
        assert (field.value, field.error) == ("100", refusal)
        assert "32 px or more" not in field.hint and "auto follows your images" in field.hint, "Slack shows both side by side"
        assert "Input size: 100 ← not possible" in words(screen) and refusal in words(screen)
        assert form(screen, "Data loader").title == "Data loader (1 value to mend)"
    assert person.press("next").title == "How shall it be tuned?"
    mended = form(person.press("submit:data-loader", image_size="112"), "Data loader")
    assert not mended.errors
    assert "32 px or more, in steps of 16" in next(field.hint for field in mended.fields if field.name == "image_size")
    assert person.press("next").title == "What shall we call it?"


def test_manual_defaults_are_those_of_the_reference(person: Person, add_dataset) -> None:
    pets = add_dataset("pets")
    person.to_manual_tuning(pets.id)
    person.press("next")
    text = words(person.press("next"))
    for expected in (
        "Batch size: 32",
        "Epochs: 100, fewer if",
        "Validation images: 20 %, unless the dataset says which",
        "Optimizer: SGD, momentum 0.9",
        "Learning rate: 0.001, constant",
        "Weight decay: 0",
        "horizontal flip, resized crop, translation up to 5 %, rotation up to 180°",
    ):
        assert expected in text


def test_a_form_opened_before_another_change_is_not_thrown_away(
    person: Person, conversation: Conversation, ada: Actor, add_dataset
) -> None:
    pets = add_dataset("pets")
    person.to_manual_tuning(pets.id)
    opened = person.screen
    person.press("submit:data-loader", epochs="9")
    screen = conversation.handle(ada, Press(opened.draft_id, opened.version, "submit:manual-assignment", values={"momentum": "0.5"}))
    assert screen.notice is None
    shown = {field.name: field.value for item in screen.forms() for field in item.fields}
    assert (shown["epochs"], shown["momentum"]) == ("9", "0.5")


def test_a_task_name_is_required_and_short(person: Person, add_dataset) -> None:
    pets = add_dataset("pets")
    person.to_model(pets.id)
    person.press("choose:data-type", "photo")
    person.press("next")
    assert "1 to 100 characters; 0 were given" in words(person.press("submit:name", name="  "))
    assert "1 to 100 characters; 101 were given" in words(person.press("submit:name", name="x" * 101))


# ---------------------------------------------------------------- presses that come late, twice, or from others


def test_two_presses_on_start_make_one_task(
    person: Person, conversation: Conversation, ada: Actor, add_dataset, database: Database
) -> None:
    pets = add_dataset("pets")
    person.to_review(pets.id)
    press = Press(person.screen.draft_id, person.screen.version, "start")
    first, second = conversation.handle(ada, press), conversation.handle(ada, press)
    assert first.task_id == second.task_id != ""
    assert (count(database, Task), count(database, Job), count(database, Outbox)) == (1, 1, 1)


def test_a_stale_button_shows_the_current_screen_and_changes_nothing(
    person: Person, conversation: Conversation, ada: Actor, add_dataset
) -> None:
    pets = add_dataset("pets")
    old = person.screen
    person.to_model(pets.id)
    screen = conversation.handle(ada, Press(old.draft_id, old.version, "cancel"))
    assert screen.notice is not None and "moved on" in screen.notice.body
    assert (screen.title, screen.version, screen.ended) == (person.screen.title, person.screen.version, False)


def test_only_the_requester_or_an_admin_may_press(person: Person, conversation: Conversation, grace: Actor) -> None:
    press = Press(person.screen.draft_id, person.screen.version, "next")
    with pytest.raises(NotAllowedError, match="belongs to Ada"):
        conversation.handle(grace, press)
    admin = Actor(grace.workspace, grace.person, grace.name, admin=True)
    assert conversation.handle(admin, press).title == "What shall the model do?"


def test_another_workspace_does_not_even_learn_that_a_draft_exists(person: Person, conversation: Conversation) -> None:
    stranger = Actor("elsewhere", person.actor.person, "Ada", admin=True)
    with pytest.raises(NotFoundError):
        conversation.handle(stranger, Press(person.screen.draft_id, None, "next"))


def test_made_up_values_are_refused_in_words(person: Person) -> None:
    assert "There is no flow “bogus”" in words(person.press("choose:flow", "bogus"))
    person.press("next")
    assert "There is no task type" in words(person.press("choose:task-type", "' OR 1=1 --"))
    person.press("choose:task-type", "single-label")
    person.press("next")
    assert "There is no dataset" in words(person.press("choose:dataset", "../../etc"))


# ---------------------------------------------------------------- restarts and time


def test_after_a_restart_the_old_buttons_go_on(person: Person, settings: Settings, storage: Storage, ada: Actor, add_dataset) -> None:
    pets = add_dataset("pets")
    person.to_model(pets.id)
    fresh = Conversation(Database.of(settings), storage, settings)
    assert fresh.show(ada, person.screen.draft_id).title == "Which network?"
    screen = fresh.handle(ada, Press(person.screen.draft_id, person.screen.version, "choose:data-type", "photo"))
    assert "We suggest" in words(screen)
    assert fresh.open_draft(ada, "terminal") == person.screen.draft_id


def test_a_draft_left_alone_expires_and_says_so(person: Person, settings: Settings, database: Database) -> None:
    assert expire_drafts(database, settings) == 0
    with database.write() as session:
        session.execute(update(Draft).values(updated_at=now() - timedelta(days=settings.draft_days + 1)))
    assert expire_drafts(database, settings) == 1
    screen = person.press("next")
    assert screen.ended and "expired" in words(screen)


def test_starting_wakes_the_queue_once_it_is_committed(
    database: Database, storage: Storage, settings: Settings, ada: Actor, place: Place, add_dataset
) -> None:
    seen: list[int] = []
    conversation = Conversation(database, storage, settings, on_start=lambda: seen.append(count(database, Outbox)))
    person = Person(conversation, ada, place)
    person.to_review(add_dataset("pets").id)
    assert seen == []
    person.press("start")
    assert seen == [1]
