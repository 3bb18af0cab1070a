"""Slack and Discord in one process over one database: what is started in one chat is announced in the other too."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from discord_world import Training
from installation import wait_until
from pydantic import SecretStr
from slack_person import Person
from slack_server import APP_TOKEN, BOT_TOKEN, TEAM, FakeSlack

import bot.slack.app
from bot import faces
from core.db.tables import Job, Task
from core.settings import Settings

pytestmark = pytest.mark.asyncio


@pytest.fixture
def slack() -> Iterator[FakeSlack]:
    with FakeSlack() as slack:
        yield slack
        assert slack.violations == []


@pytest.fixture
def settings(settings: Settings, slack: FakeSlack) -> Settings:
    tokens = {"slack_bot_token": SecretStr(BOT_TOKEN), "slack_app_token": SecretStr(APP_TOKEN), "discord_token": SecretStr("token")}
    return settings.model_copy(update={"slack_api_url": slack.api_url, **tokens})


@pytest.fixture
def both(world: Any, slack: FakeSlack, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Person]:
    """Both faces in one process, as `stationmaster up` runs them, with Discord's connection held by simcord; yields somebody at Slack."""
    started: list[Any] = []
    start = bot.slack.app.start

    def connect(*arguments: Any) -> Any:
        started.append(start(*arguments))
        return started[-1]

    monkeypatch.setattr(bot.slack.app, "start", connect)
    discord = SimpleNamespace(poster=world.bot.poster, alive=lambda: True, stop=lambda: None)
    monkeypatch.setattr("bot.discord.app.start", lambda *_: discord)
    settings.announcement_links = f"slack:{TEAM}/C0000MAIN=discord:{world.channel.id}"
    stop = threading.Event()
    running = threading.Thread(target=faces.run_faces, args=(settings, world.database, world.storage, stop))
    running.start()
    wait_until(lambda: started and slack.connected(), 60)
    yield Person(slack, lambda: started[0].board.settle(30))
    stop.set()
    running.join(30)
    assert not running.is_alive()


@pytest.fixture
def train(world: Any) -> Callable[[], Training]:
    """What workers do with the only task that waits."""

    def run() -> Training:
        with world.database.read() as session:
            task = session.query(Task).filter_by(state="waiting").one()
            job = session.query(Job).filter_by(task_id=task.id).one()
        training = Training(world, task, job, clock=None)  # type: ignore[arg-type]
        training.claim()
        training.finish()
        return training

    return run


async def until(done: Callable[[], bool]) -> None:
    for _ in range(150):
        if done():
            return
        await asyncio.sleep(0.1)
    raise AssertionError("it was not told")


def of_slack(slack: FakeSlack, thread: str | None = None) -> list[str]:
    from slack_person import read

    return [read(message) for message in slack.messages("C0000MAIN", thread)]


async def test_what_is_trained_from_slack_is_announced_in_discord(
    world: Any, both: Person, slack: FakeSlack, add_dataset: Any, train: Callable[[], Training]
) -> None:
    add_dataset("pets")

    def converse() -> None:
        both.command("/train")
        both.press("Next")
        both.choose("choose:task-type", "Single-label")
        both.press("Next")
        both.choose("choose:dataset", "pets")
        both.press("Next")
        both.choose("choose:data-type", "Photographs")
        both.press("Next")
        both.press("Next")
        both.press("Start")

    await asyncio.to_thread(converse)
    train()
    await until(lambda: any("98.6" in post for post in of_slack(slack, both.thread())))
    await until(lambda: bool(world.posts(world.channel)))
    assert world.posts(world.channel) == ["“pets classification” is trained: accuracy 98.6 %. The thread is in Slack."]
    assert not world.channel.threads
    await until(lambda: any("is trained" in post for post in of_slack(slack)))
    assert sum("is trained" in post for post in of_slack(slack)) == 1


async def test_what_is_trained_from_discord_is_announced_in_slack(
    world: Any, both: Person, slack: FakeSlack, add_dataset: Any, train: Callable[[], Training]
) -> None:
    await world.to_review(add_dataset("pets"))
    await world.click("Start")
    training = train()
    await until(lambda: "98.6 %" in world.words())
    await until(lambda: any("is trained: accuracy 98.6" in post for post in of_slack(slack)))
    assert sum("is trained" in post and "The thread is in Discord" in post for post in of_slack(slack)) == 1
    assert "is trained" in world.posts(world.channel)[-1]
    await until(lambda: training.delivery.done)
