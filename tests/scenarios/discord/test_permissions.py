"""The permissions of the invite link are enough (all scenarios run with them), and each is needed for what the guide says."""

from typing import Any

import discord
import pytest
from discord_permissions import GUIDE, grant, invited

from core.db.tables import Draft

pytestmark = pytest.mark.asyncio


@pytest.fixture
def without(world: Any) -> Any:
    def take(*names: str) -> None:
        permissions = invited()
        for name in names:
            assert getattr(permissions, name), f"{name} is not asked for"
            setattr(permissions, name, False)
        grant(world.env, world.guild, permissions)

    return take


async def test_the_guide_explains_each_permission_of_its_link() -> None:
    text = GUIDE.read_text()
    for name, wanted in invited():
        title = "View Channels" if name == "read_messages" else name.replace("_", " ").title().replace(" In ", " in ")
        assert (f"| {title} ({discord.Permissions(**{name: True}).value})" in text) == wanted, title


async def test_without_view_channel_nothing_is_begun(world: Any, add_dataset: Any, without: Any, said: Any) -> None:
    without("view_channel")
    begun = await world.ada.slash(world.channel, "train")
    assert begun.ephemeral and "I may not write in this channel" in said(begun)
    with world.database.read() as session:
        assert session.query(Draft).count() == 0


@pytest.mark.parametrize("missing", ["create_public_threads", "send_messages_in_threads"])
async def test_without_threads_the_conversation_is_held_in_the_channel(world: Any, without: Any, missing: str) -> None:
    without(missing)
    await world.ada.slash(world.channel, "train")
    assert not world.channel.threads and "What kind of training?" in world.posts(world.channel)[-1]


async def test_without_send_messages_only_the_announcement_is_missing(world: Any, started: Any, without: Any) -> None:
    training = await started()
    without("send_messages")
    training.claim()
    training.finish()
    await world.tick()
    assert "98.6 %" in world.words() and not world.posts(world.channel)


async def test_without_attach_files_the_result_is_told_without_its_pictures(world: Any, started: Any, without: Any) -> None:
    training = await started()
    without("attach_files")
    training.claim()
    training.finish()
    await world.tick()
    assert "98.6 %" in world.words() and "the picture cannot be shown" in world.words()


async def test_without_the_history_a_crash_posts_twice(world: Any, started: Any, without: Any, crash: Any) -> None:
    without("read_message_history")
    training = await started()
    training.claim()
    await world.tick()
    training.finish()
    with crash():
        await world.tick()
    before = len(world.posts(world.thread))
    await world.restart()
    await world.tick()
    assert len(world.posts(world.thread)) > before


async def test_a_conversation_that_could_not_be_begun_leaves_no_open_thread(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(world.bot.office.conversation, "begin", full)
    await world.ada.slash(world.channel, "train")
    assert world.env.backend.get_channel(world.thread.id).thread_metadata.archived


async def test_a_thread_is_called_after_its_task(world: Any, add_dataset: Any) -> None:
    pets = add_dataset("pets")
    await world.to_review(pets)
    assert world.thread.name == "Training with ada"
    await world.click("Start")
    assert world.thread.name == "pets classification"


async def test_a_name_that_people_gave_a_thread_stays(world: Any, add_dataset: Any) -> None:
    pets = add_dataset("pets")
    await world.to_review(pets)
    world.env.backend.edit_channel(world.thread.id, {"name": "Our cats"})
    await world.env.settle()
    await world.click("Start")
    assert world.thread.name == "Our cats"
