"""Direct messages, servers that allow little, late acknowledgements, a busy Discord, old messages, failures of our own."""

import asyncio
import threading
from typing import Any

import discord
import pytest
from simcord.results import ResponseMessage

from core.db.tables import Draft, Task
from core.vocabulary import TaskType

pytestmark = pytest.mark.asyncio

OLD = "Maximum number of edits to messages older than 1 hour reached. Try again later."


@pytest.fixture
def pets(add_dataset: Any) -> Any:
    return add_dataset("pets")


async def test_a_direct_message_holds_a_whole_conversation(world: Any, pets: Any) -> None:
    ada = world.env.create_user("ada alone")
    begun = await ada.slash("train", task_type="single-label", dataset=pets.id)
    wizard = begun.followups[0]
    assert not wizard.ephemeral
    await ada.click(wizard, label="Next")
    menu = next(item for item in world.walk(wizard.components) if item["type"] == 3 and "data-type" in item["custom_id"])
    await ada.select(wizard, ["photo"], custom_id=menu["custom_id"])
    for label in ("Next", "Next", "Start"):
        await ada.click(wizard, label=label)
    await world.tick()
    with world.database.read() as session:
        task = session.query(Task).one()
        assert task.place == {"face": "discord", "channel": str(ada.dm_channel.id), "thread": ""}
    assert "next in the queue" in world.posts(ada.dm_channel)[-1]


async def test_without_the_right_to_open_threads_the_conversation_is_held_in_place(world: Any, pets: Any) -> None:
    channel = world.guild.create_text_channel(
        "no threads", overwrites={world.guild.default_role: discord.PermissionOverwrite(create_public_threads=False)}
    )
    begun = await world.ada.slash(channel, "train")
    assert not channel.threads and not begun.followups[0].ephemeral
    assert "What kind of training?" in world.posts(channel)[-1]
    with world.database.read() as session:
        assert session.query(Draft).one().place["thread"] == ""


async def test_where_the_bot_may_not_write_it_says_so_privately(world: Any, pets: Any, said: Any) -> None:
    silent = discord.PermissionOverwrite(send_messages=False, create_public_threads=False)
    channel = world.guild.create_text_channel("read only", overwrites={world.guild.default_role: silent})
    begun = await world.ada.slash(channel, "train")
    assert begun.ephemeral and "I may not write in this channel" in said(begun) and not world.posts(channel)
    with world.database.read() as session:
        assert session.query(Draft).count() == 0


async def test_in_a_thread_the_conversation_is_held_there(world: Any, pets: Any) -> None:
    await world.ada.slash(world.channel, "train")
    thread = world.thread
    await world.ada.slash(thread, "train")
    assert len(world.channel.threads) == 1 and len(world.posts(thread)) == 2


async def test_a_press_acknowledged_too_late_did_nothing_and_can_be_repeated(world: Any, pets: Any) -> None:
    await world.ada.slash(world.channel, "train")
    before = world.words()
    world.env.inject_error("POST", "/interactions/*/callback", status=404, code=10062, message="Unknown interaction")
    late = await world.click("Next")
    assert not late.acknowledged and world.words() == before
    await world.click("Next")
    assert "What shall the model do?" in world.words()


async def test_a_dialog_opened_too_late_does_nothing_and_can_be_opened_again(world: Any, pets: Any) -> None:
    await world.to_review(pets)
    await world.click("Back")
    world.env.inject_error("POST", "/interactions/*/callback", status=404, code=10062, message="Unknown interaction", times=2)
    assert (await world.click("Edit names…")).modal is None
    opened = await world.click("Edit names…")
    await world.ada.submit_modal(opened, {"name": "Cats", "description": "", "model_name": ""})
    assert "**Task name** Cats" in world.words()


async def test_a_late_train_leaves_nothing_behind(world: Any, pets: Any) -> None:
    world.env.inject_error("POST", "/interactions/*/callback", status=404, code=10062, message="Unknown interaction")
    await world.ada.slash(world.channel, "train")
    assert not world.channel.threads
    with world.database.read() as session:
        assert session.query(Draft).count() == 0


async def test_an_acknowledgement_whose_answer_was_lost_counts(world: Any, pets: Any) -> None:
    await world.ada.slash(world.channel, "train")
    world.env.inject_error("POST", "/interactions/*/callback", status=400, code=40060, message="already acknowledged")
    await world.click("Next")
    with world.database.read() as session:
        assert session.query(Draft).one().choices["step"] == "task-type"


async def test_a_busy_discord_is_asked_again(world: Any, pets: Any) -> None:
    await world.ada.slash(world.channel, "train")
    world.env.inject_error("PATCH", "/webhooks/*", status=429, message="You are being rate limited.", times=2)
    await world.click("Next")
    assert "What shall the model do?" in world.words()


async def test_a_wizard_message_that_takes_no_more_edits_is_replaced(world: Any, pets: Any) -> None:
    await world.ada.slash(world.channel, "train")
    old = world.wizard.id
    await world.env.advance_time(7200)
    world.env.inject_error("PATCH", "/webhooks/*", status=429, code=30046, message=OLD, times=1)
    await world.click("Next")
    assert world.wizard.id != old and "What shall the model do?" in world.words()
    assert old not in world.env.backend.messages[world.thread.id]
    await world.click("Back")
    assert "What kind of training?" in world.words()


async def test_everything_still_works_after_days(world: Any, pets: Any) -> None:
    await world.ada.slash(world.channel, "train")
    await world.env.advance_time(5 * 24 * 3600)
    await world.click("Next")
    assert "What shall the model do?" in world.words()


async def test_answers_that_wait_for_a_worker_hold_nobody_else_up(world: Any, pets: Any) -> None:
    ready = threading.Event()
    waiting = [asyncio.create_task(asyncio.to_thread(ready.wait, 30)) for _ in range(40)]
    try:
        await world.ada.slash(world.channel, "train")
        await world.click("Next")
        assert "What shall the model do?" in world.words() and not any(task.done() for task in waiting)
    finally:
        ready.set()
        await asyncio.gather(*waiting)


async def test_a_fault_of_ours_is_said_in_plain_words_without_a_trace(world: Any, pets: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.ada.slash(world.channel, "train")

    def broken(*_: Any) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(world.bot.office.conversation, "handle", broken)
    pressed = await world.click("Next")
    told: ResponseMessage = pressed.followups[0]
    assert told.ephemeral and "Something went wrong here" in world.words(told) and "division" not in world.words(told)


@pytest.mark.parametrize(
    ("kind", "task_type"),
    [
        ("multi-label", "multi-label"),
        ("boxes", "object-detection"),
        ("regions", "object-segmentation"),
        ("instances", "object-segmentation"),
    ],
)
async def test_each_task_type_lists_the_datasets_that_fit(world: Any, add_dataset: Any, kind: str, task_type: TaskType) -> None:
    add_dataset("others")
    fitting = add_dataset("fitting", kind)
    await world.ada.slash(world.channel, "train", task_type=task_type)
    assert "others" not in world.words()
    await world.choose(fitting.id)
    assert "### fitting" in world.words()


@pytest.mark.parametrize("flow", ["specialized", "retraining"])
async def test_the_other_flows_lead_on(world: Any, pets: Any, flow: str) -> None:
    await world.ada.slash(world.channel, "train")
    await world.choose(flow)
    await world.click("Next")
    assert ("Which application?" if flow == "specialized" else "Which model shall learn on?") in world.words()
