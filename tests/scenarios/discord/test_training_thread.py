"""A training as its thread tells it: place in the queue, progress, result, announcement, stop; and what Discord does to it meanwhile."""

import asyncio
import dataclasses
from typing import Any

import pytest
from discord_world import Clock

from core.access import Place
from core.tasks.lifecycle import fail_job

pytestmark = pytest.mark.asyncio


async def test_a_whole_training_is_one_changing_message_a_result_and_an_announcement(world: Any, started: Any, clock: Clock) -> None:
    training = await started()
    await world.tick()
    assert "next in the queue" in world.words()
    training.claim()
    await clock.passes(5)
    await world.tick()
    assert "started on CPU" in world.words()
    training.tell(3, 0.25, metric=0.9, metric_name="accuracy", seconds_left=60.0)
    await clock.passes(5)
    await world.tick()
    assert "25% · epoch 3 of 10, about 60 s left" in world.words() and "`█████░░░" in world.words()
    assert list(world.controls()) == ["Stop, keep the best", "Stop and discard", "Details", "Hyperparameters"]
    training.finish()
    await world.tick()
    _cancelled, progress, result = world.posts(world.thread)
    assert "Finished." in progress
    assert "**Accuracy** 98.6 %" in result and "baseline" in result
    pictures = [item for item in world.walk(world.wizard.components) if item["type"] == 12]
    assert len(pictures[0]["items"]) == 2
    assert list(world.controls()) == ["Test an image", "Retrain", "Download", "Details"]
    assert world.posts(world.channel) == [f"“Pets” is trained: accuracy 98.6 %.\n<#{world.thread.id}>"]
    await world.tick()
    assert len(world.posts(world.thread)) == 3


async def test_a_crash_between_posting_and_remembering_posts_nothing_twice(world: Any, started: Any, clock: Clock, crash: Any) -> None:
    training = await started()
    training.claim()
    await world.tick()
    training.finish()
    with crash():
        await world.tick()
    assert len(world.posts(world.thread)) == 3
    await world.restart()
    await world.tick()
    assert len(world.posts(world.thread)) == 3 and len(world.posts(world.channel)) == 1
    assert training.delivery.done


async def test_the_same_message_is_sent_with_the_same_nonce_so_that_discord_keeps_one(world: Any, started: Any) -> None:
    training = await started()
    world.env.inject_error("POST", "/channels/*/messages", status=503)
    await world.tick()
    world.bot.poster._pauses.clear()
    await world.tick()
    sent = [
        request.body for request in world.requests if request.method == "POST" and request.path == f"/channels/{world.thread.id}/messages"
    ]
    tries = [body for body in sent if str(body.get("nonce")).endswith(":progress")]
    assert len(tries) == 2 and tries[0]["nonce"] == tries[1]["nonce"] == f"{training.task.id}:progress"
    assert all(body["enforce_nonce"] for body in tries)


async def test_a_restart_in_mid_training_goes_on_in_the_same_message(world: Any, started: Any, clock: Clock) -> None:
    training = await started()
    training.claim()
    await world.tick()
    before = world.wizard.id
    await world.restart()
    training.tell(5, 0.5)
    await world.tick()
    assert world.wizard.id == before and "50% · epoch 5 of 10" in world.words()


async def test_too_many_requests_are_obeyed_and_the_training_goes_on(world: Any, started: Any, clock: Clock) -> None:
    training = await started()
    await world.tick()
    training.claim()
    world.env.inject_error("PATCH", "/channels/*/messages/*", status=429, message="You are being rate limited.", times=None)
    await clock.passes(5)
    await world.tick()
    asked = len(world.requests)
    await world.tick()
    assert len(world.requests) == asked, "the channel is left alone for a while"
    world.env.backend.faults.clear()
    world.bot.poster._pauses.clear()
    training.finish()
    await world.tick()
    assert "98.6 %" in world.words() and training.state == "finished"


async def test_an_old_message_is_not_edited_but_replaced(world: Any, started: Any, clock: Clock) -> None:
    training = await started()
    training.claim()
    await world.tick()
    old = world.wizard.id
    await clock.passes(3700)
    training.tell(5, 0.5)
    await world.tick()
    posts = world.posts(world.thread)
    assert world.wizard.id != old and len(posts) == 2 and "50% · epoch 5" in posts[-1]
    assert not [request for request in world.requests if request.method == "PATCH" and request.path.endswith(f"/messages/{old}")]
    assert training.delivery.progress_message == str(world.wizard.id)
    await clock.passes(61)
    training.tell(6, 0.6)
    await world.tick()
    assert len(world.posts(world.thread)) == 2 and "60% · epoch 6" in world.words()


async def test_when_discord_takes_no_more_edits_a_fresh_message_follows(world: Any, started: Any, clock: Clock) -> None:
    training = await started()
    training.claim()
    await world.tick()
    old = world.wizard.id
    world.env.inject_error(
        "PATCH", "/channels/*/messages/*", status=429, code=30046, message="Maximum number of edits to messages older than 1 hour reached."
    )
    training.tell(5, 0.5)
    await clock.passes(5)
    await world.tick()
    assert world.wizard.id != old and "50%" in world.words() and len(world.posts(world.thread)) == 2


async def test_a_deleted_progress_message_is_posted_afresh(world: Any, started: Any, clock: Clock) -> None:
    training = await started()
    training.claim()
    await world.tick()
    world.env.backend.delete_message(world.thread.id, world.wizard.id)
    training.tell(5, 0.5)
    await clock.passes(5)
    await world.tick()
    assert "50%" in world.words()


async def test_a_deleted_channel_never_hurts_the_training(world: Any, started: Any, clock: Clock) -> None:
    training = await started()
    training.claim()
    await world.tick()
    world.env.backend.delete_channel(world.thread.id)
    training.tell(5, 0.5)
    await clock.passes(5)
    await world.tick()
    training.finish()
    await world.tick()
    assert training.state == "finished" and training.delivery.done


async def test_a_thread_stays_out_of_the_archive_while_it_trains(world: Any, started: Any, clock: Clock) -> None:
    training = await started()
    training.claim()
    await world.tick()
    thread = world.env.backend.get_channel(world.thread.id)
    world.env.backend.edit_channel(thread.id, {}, thread_metadata={"archived": True})
    await world.env.settle()
    assert not _archived(world)
    training.finish()
    await world.tick()
    world.env.backend.edit_channel(thread.id, {}, thread_metadata={"archived": True})
    await world.env.settle()
    assert _archived(world), "afterwards it may rest"


async def test_what_a_locked_thread_does_not_take_is_announced_and_told_when_it_is_opened(world: Any, started: Any, clock: Clock) -> None:
    training = await started()
    training.claim()
    await world.tick()
    world.env.backend.edit_channel(world.thread.id, {}, thread_metadata={"locked": True})
    for method, path in (("POST", "messages"), ("PATCH", "messages/*")):
        world.env.inject_error(
            method, f"/channels/{world.thread.id}/{path}", status=403, code=160005, message="Thread is locked", times=None
        )
    training.finish()
    for _ in range(3):
        await clock.passes(5)
        await world.tick()
    assert world.posts(world.channel) == [f"“Pets” is trained: accuracy 98.6 %.\n<#{world.thread.id}>"]
    assert not training.delivery.done and training.state == "finished"
    world.env.backend.faults.clear()
    world.env.backend.edit_channel(world.thread.id, {}, thread_metadata={"locked": False})
    await world.env.settle()
    await world.tick()
    assert "98.6 %" in world.words() and training.delivery.done
    assert len(world.posts(world.channel)) == 1


async def test_a_thread_that_stays_locked_is_asked_ever_more_seldom_and_at_last_no_more(world: Any, started: Any, clock: Clock) -> None:
    training = await started()
    training.claim()
    await world.tick()
    world.env.inject_error("POST", "/channels/*/messages", status=403, code=160005, message="Thread is locked", times=None)
    world.env.inject_error("PATCH", "/channels/*/messages/*", status=403, code=160005, message="Thread is locked", times=None)
    training.finish()
    pauses, thread = [], str(world.thread.id)
    for _ in range(8):
        await clock.passes(5)
        await world.tick()
        asked = len(world.requests)
        await world.tick()
        assert len(world.requests) == asked, "within the pause nothing is asked of the thread"
        pauses.append(world.bot.poster._pauses[thread].seconds)
        world.bot.poster._pauses[thread] = dataclasses.replace(world.bot.poster._pauses[thread], until=0.0)
    assert pauses == [60, 120, 240, 480, 960, 1920, 3600, 3600]
    await clock.passes(8 * 24 * 3600)
    await world.tick()
    assert training.delivery.done and training.state == "finished"


async def test_beside_a_post_of_a_forum_nothing_is_announced(world: Any, started: Any) -> None:
    """A forum takes posts only; who follows the post reads the result in it."""
    forum = world.env.backend.create_channel(world.guild.id, name="trainings", type=15)
    await world.ada.slash(world.channel, "train")  # opens a thread, which stands for the post
    await world.click("Cancel")
    training = await started(Place("discord", str(forum.id), str(world.thread.id)))
    training.claim()
    training.finish()
    await world.tick()
    assert "98.6 %" in world.words()
    assert not [request for request in world.requests if request.path.startswith(f"/channels/{forum.id}/")]


async def test_stopping_asks_first_and_then_says_so_until_it_is_true(world: Any, started: Any, clock: Clock, said: Any) -> None:
    training = await started()
    training.claim()
    await world.tick()
    progress = world.wizard
    asked = await world.click("Stop and discard")
    assert asked.ephemeral and "throw away what it has learnt" in said(asked)
    left = await world.ada.click(asked.response, label="Go on training")
    assert "Nothing was changed" in said(left) and training.state == "running"
    asked = await world.ada.click(progress, label="Stop, keep the best")
    done = await world.ada.click(asked.response, label="Stop and keep")
    assert "is stopping" in said(done) and training.state == "stopping"
    await clock.passes(5)
    await world.tick()
    assert "Stopping" in world.words() and "Stop and discard" not in world.controls()


async def test_only_the_creator_and_admins_may_stop(world: Any, started: Any, clock: Clock, said: Any) -> None:
    training = await started()
    training.claim()
    await world.tick()
    refused = await world.click("Stop and discard", who=world.bob)
    assert refused.ephemeral and "Only the person who made this task" in said(refused)
    world.bot.office.settings.discord_admin_roles = "Trainers"
    carol = world.join("carol", world.guild.create_role("Trainers"))
    asked = await world.click("Stop and discard", who=carol)
    await carol.click(asked.response, label="Stop and discard")
    assert training.state == "stopping"


async def test_a_failure_says_what_to_do_and_is_announced(world: Any, started: Any) -> None:
    training = await started()
    training.claim()
    with world.database.write() as session:
        fail_job(session, training.job.id, 1, "The disk is full.", "Free some space, then start again.")
    await world.tick()
    assert "❌ “Pets” ended with an error: The disk is full." in world.words() and "Free some space" in world.words()
    assert "ended with an error" in world.posts(world.channel)[0]


async def test_results_are_announced_in_the_operators_channel_and_in_linked_ones(world: Any, started: Any) -> None:
    from bot.links import Links
    from bot.notifier import Notifier

    board, other = world.guild.create_text_channel("board"), world.guild.create_text_channel("other")
    world.bot.office.settings.discord_announcements = str(board.id)
    world.settings.announcement_links = f"slack:T1/C1=discord:7, discord:{world.channel.id}=discord:{other.id}"
    training = await started()
    notifier = Notifier(world.database, world.storage, (world.bot.poster,), links=Links.of(world.settings))
    training.claim()
    training.finish()
    await asyncio.to_thread(notifier.tick)
    assert "is trained" in world.posts(board)[0] and f"<#{world.thread.id}>" in world.posts(board)[0]
    assert world.posts(other) == ["“Pets” is trained: accuracy 98.6 %."]
    assert not world.posts(world.channel)


async def test_a_bot_that_stands_alone_tells_its_threads_by_itself(world: Any, started: Any) -> None:
    from bot.discord.app import create_bot

    training = await started()
    training.claim()
    training.finish()
    await world.env.restart_bot(create_bot(world.settings, database=world.database, storage=world.storage))
    for _ in range(100):
        await asyncio.sleep(0.1)
        if training.delivery.done:
            break
    assert "98.6 %" in world.words()
    await world.bot.close()


def _archived(world: Any) -> bool:
    return bool(world.env.backend.get_channel(world.thread.id).thread_metadata.archived)
