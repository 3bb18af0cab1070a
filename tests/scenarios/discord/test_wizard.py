"""Whole conversations in a server: one message in a thread that changes from step to step, up to Start."""

from collections.abc import Callable
from typing import Any

import pytest

from core.db.tables import Draft, Task

pytestmark = pytest.mark.asyncio


@pytest.fixture
def pets(add_dataset: Callable[..., Any]) -> Any:
    return add_dataset("pets")


async def to_tuning(world: Any, pets: Any) -> None:
    """As far as the tuning of a network that was picked by hand."""
    await world.ada.slash(world.channel, "train", task_type="single-label", dataset=pets.id)
    await world.click("Next")
    await world.choose("manual", "selection")
    await world.choose("DenseNet", "family")
    await world.choose("densenet121", "network")
    await world.choose("none", "pretraining")
    await world.click("Next")


async def test_from_train_to_start_in_one_message(world: Any, pets: Any, said: Any) -> None:
    begun = await world.ada.slash(world.channel, "train")
    assert begun.ephemeral and f"<#{world.thread.id}>" in said(begun)
    assert len(world.channel.threads) == 1
    first = world.wizard.id
    assert "What kind of training?" in world.words() and "◉ **Dataset** ─ ○ Model ─ ○ Start" in world.words()
    await world.click("Next")
    await world.choose("single-label")
    await world.click("Next")
    await world.choose(pets.id)
    assert "pets" in world.words() and "cat (50), dog (50)" in world.words()
    await world.click("Next")
    assert "● Dataset ─ ◉ **Model** ─ ○ Start" in world.words()
    await world.choose("photo", "data-type")
    assert "We suggest" in world.words() and "Why:" in world.words()
    await world.click("Next")
    assert "What shall we call it?" in world.words()
    await world.click("Next")
    assert "Everything right?" in world.words() and "Training jobs" in world.words()
    await world.click("Start")
    assert world.wizard.id == first, "it is one message all the way"
    with world.database.read() as session:
        task = session.query(Task).one()
        assert task.created_by == f"discord:{world.ada.id}" and task.created_by_name == "ada"
        assert task.place == {"face": "discord", "channel": str(world.channel.id), "thread": str(world.thread.id)}


async def test_start_pressed_twice_starts_once(world: Any, pets: Any) -> None:
    await world.to_review(pets)
    start = world.controls()["Start"]
    await world.click("Start")
    await world.press(start)
    with world.database.read() as session:
        assert session.query(Task).count() == 1


async def test_a_stale_press_is_answered_privately_and_shows_where_things_stand(world: Any, pets: Any, said: Any) -> None:
    await world.ada.slash(world.channel, "train")
    stale = world.controls()["Next"]
    await world.click("Next")
    pressed = await world.press(stale)
    assert pressed.followups[0].ephemeral and "moved on" in world.words(pressed.followups[0])
    assert "What shall the model do?" in world.words() and "moved on" not in world.words()


async def test_other_people_are_refused_privately(world: Any, pets: Any) -> None:
    await world.ada.slash(world.channel, "train")
    before = world.words()
    pressed = await world.click("Next", who=world.bob)
    assert pressed.followups[0].ephemeral and "belongs to ada" in world.words(pressed.followups[0])
    assert world.words() == before


async def test_all_buttons_work_after_a_restart(world: Any, pets: Any) -> None:
    await world.ada.slash(world.channel, "train")
    await world.click("Next")
    await world.choose("single-label")
    await world.restart()
    await world.click("Next")
    await world.choose(pets.id)
    assert "cat (50), dog (50)" in world.words()
    await world.click("Back")
    assert "What shall the model do?" in world.words() and "◉ **Single-label classification**" in world.words()


async def test_cancel_ends_the_conversation(world: Any, pets: Any) -> None:
    await world.ada.slash(world.channel, "train")
    await world.click("Cancel")
    assert not world.controls()
    with world.database.read() as session:
        assert session.query(Draft).one().state == "cancelled"


async def test_a_draft_that_holds_choices_is_thrown_away_only_when_meant(world: Any, pets: Any) -> None:
    def state() -> str:
        with world.database.read() as session:
            return session.query(Draft).one().state

    await world.ada.slash(world.channel, "train", task_type="single-label")
    await world.choose(pets.id)
    old = world.controls()["Cancel"]
    await world.click("Cancel")
    assert "Throw away what you have chosen here?" in world.words() and state() == "open"
    refused = await world.click("Go on with it", who=world.bob)
    assert refused.followups[0].ephemeral and "Throw away" in world.words()
    await world.restart()
    await world.click("Go on with it")
    assert "cat (50), dog (50)" in world.words()
    await world.click("Next")
    await world.press(old)
    assert "Which network?" in world.words() and state() == "open"
    await world.click("Cancel")
    await world.click("Throw it away")
    assert "nothing was started" in world.words() and not world.controls() and state() == "cancelled"


async def test_what_was_said_with_the_command_is_not_asked(world: Any, pets: Any) -> None:
    choices = await world.ada.autocomplete(world.channel, "train", "dataset", "pe", task_type="single-label")
    assert choices == [{"name": "pets · 100 images", "value": pets.id}]
    await world.ada.slash(world.channel, "train", task_type="single-label", dataset=pets.id)
    assert "Which dataset?" in world.words() and "cat (50), dog (50)" in world.words()


async def test_of_many_datasets_autocompletion_offers_what_discord_takes(world: Any, add_dataset: Callable[..., Any]) -> None:
    for number in range(30):
        add_dataset(f"{'x' * 95}{number:02}")
    choices = await world.ada.autocomplete(world.channel, "train", "dataset", "x")
    assert len(choices) == 25 and all(len(choice["name"]) <= 100 for choice in choices)


async def test_an_unknown_dataset_is_told_privately_and_leaves_no_thread(world: Any, pets: Any, said: Any) -> None:
    begun = await world.ada.slash(world.channel, "train", dataset="cows")
    assert begun.ephemeral and "cows" in said(begun)
    assert not world.channel.threads


async def test_a_name_is_typed_in_a_dialog_filled_with_what_stands(world: Any, pets: Any) -> None:
    await world.to_review(pets)
    await world.click("Back")
    opened = await world.click("Edit names…")
    assert opened.modal["components"][0]["component"]["value"] == "pets classification"
    await world.ada.submit_modal(opened, {"name": "*Pets* @everyone <@1>", "description": "", "model_name": ""})
    assert "\\*Pets\\* @\u200beveryone \\<@1\\>" in world.words()


async def test_a_dialog_that_was_open_during_a_restart_is_taken(world: Any, pets: Any) -> None:
    await world.to_review(pets)
    await world.click("Back")
    opened = await world.click("Edit names…")
    await world.restart()
    await world.ada.submit_modal(opened, {"name": "Cats", "description": "", "model_name": ""})
    assert "**Task name** Cats" in world.words()


async def test_hyperparameters_come_in_dialogs_of_five_and_wrong_ones_come_back(world: Any, pets: Any) -> None:
    await to_tuning(world, pets)
    await world.choose("manual", "tuning")
    labels = list(world.controls())
    assert [label for label in labels if label.startswith("Augmentation")] == [f"Augmentation {part} of 3…" for part in (1, 2, 3)]
    opened = await world.click("Data loader…")
    inputs = {item["component"]["custom_id"]: item["component"] for item in opened.modal["components"]}
    assert inputs["epochs"]["value"] == "100" and inputs["batch_size"]["value"] == "32"
    values = {name: item["value"] for name, item in inputs.items()}
    await world.ada.submit_modal(opened, values | {"epochs": "300", "batch_size": "16"})
    assert "300 ← not possible" in world.words() and "1 to 200" in world.words() and "**Batch size** 16" in world.words()
    again = await world.click("Data loader (1 value to mend)…")
    inputs = {item["component"]["custom_id"]: item for item in again.modal["components"]}
    assert inputs["epochs"]["component"]["value"] == "300" and inputs["epochs"]["description"].startswith("⚠")
    await world.ada.submit_modal(again, values | {"epochs": "30", "batch_size": "16"})
    assert "not possible" not in world.words() and "**Training epochs** 30" in world.words()
    tuned = await world.click("Manual assignment…")
    kinds = {item["component"]["custom_id"]: item["component"]["type"] for item in tuned.modal["components"]}
    assert kinds["learning_rate_schedule"] == 3 and kinds["early_stop"] == 23
    await world.ada.submit_modal(
        tuned,
        {"learning_rate": "0.01", "learning_rate_schedule": ["cosine"], "weight_decay": "0", "momentum": "0.9", "early_stop": False},
    )
    assert "**Learning-rate schedule** cosine" in world.words() and "**Early stop** off" in world.words()


async def test_the_product_of_a_grid_is_told_as_soon_as_its_dialog_is_sent(world: Any, pets: Any) -> None:
    """Discord's dialogs say nothing while they are open: the message does, right after, and above 48 goes no further."""
    await to_tuning(world, pets)
    await world.choose("grid", "tuning")
    assert "1 learning rate × 1 weight decay × 1 momentum = 1 training job" in world.words()
    opened = await world.click("Values to try…")
    typed = {"grid_learning_rate": "0.1, 0.01", "grid_weight_decay": "0", "grid_momentum": "0.7, 0.8, 0.9"}
    await world.ada.submit_modal(opened, typed)
    assert "2 learning rates × 1 weight decay × 3 momenta = 6 training jobs" in world.words() and "at most 48" not in world.words()
    again = await world.click("Values to try…")
    await world.ada.submit_modal(
        again, typed | {"grid_learning_rate": "1, 0.5, 0.1, 0.05, 0.01, 0.005", "grid_weight_decay": "0, 0.01, 0.1"}
    )
    refused = "6 learning rates × 3 weight decays × 3 momenta = 54 training jobs; a task has at most 48. Give fewer values to try."
    assert refused in world.words()
    await world.click("Next")
    assert refused in world.words() and "How shall it be tuned?" in world.words()
    await world.ada.submit_modal(await world.click("Values to try…"), typed)
    await world.click("Next")
    await world.click("Next")
    assert "**Training jobs** 6" in world.words()


async def test_long_menus_are_searched_and_paged(world: Any, add_dataset: Callable[..., Any]) -> None:
    for number in range(60):
        add_dataset(f"cells {number:02}")
    horses = add_dataset("horses")
    await world.ada.slash(world.channel, "train", task_type="single-label")
    assert "1–25 of 61" in world.words()
    await world.click("More ▶")
    assert "26–50 of 61" in world.words() and "cells 25" in world.words()
    await world.restart()
    await world.click("More ▶")
    assert "51–61 of 61" in world.words() and "horses" in world.words()
    searching = await world.click("🔍 Search dataset…")
    await world.ada.submit_modal(searching, {"query": "horse"})
    assert "1–1 of 1 matching “horse”" in world.words() and "cells" not in world.words()
    await world.choose(horses.id)
    assert "horses" in world.words() and "cat (50), dog (50)" in world.words()
