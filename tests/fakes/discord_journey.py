"""One person's way through a server, from an archive to a model, with whoever does the work meanwhile."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from core.db.tables import Dataset, Job, Task


@dataclass
class Journey:
    """One person's way from an archive to a model. `work`, where no workers run, does what waits; it is called in a thread."""

    world: Any
    work: Callable[[], None] = lambda: None

    async def until(self, done: Callable[[], bool], seconds: float = 300) -> None:
        """Let workers and notifier go on until something is to be seen."""
        deadline = time.monotonic() + seconds
        while not done():
            world = self.world
            assert time.monotonic() < deadline, world.posts(world.thread) if world.channel.threads else world.posts(world.channel)
            await asyncio.sleep(0.3)
            await asyncio.to_thread(self.work)
            await world.tick()

    async def send(self, name: str, archive: bytes) -> Dataset:
        """Send an archive with the command, and wait until it is a dataset."""
        world = self.world
        await world.ada.slash(world.channel, "datasets", **{"import": (f"{name}.zip", archive)})
        await self.until(lambda: any(f"“{name}” is ready" in post for post in world.posts(world.thread)))
        with world.database.read() as session:
            return session.query(Dataset).filter_by(name=name).one()

    async def network(self, family: str, network: str) -> None:
        """Choose a network by hand, from scratch."""
        for value, action in (("manual", "selection"), (family, "family"), (network, "network"), ("none", "pretraining")):
            await self.search(value, action)
        await self.world.click("Next")

    async def search(self, value: str, action: str) -> None:
        """Choose, after a search where the list is long and does not show it."""
        try:
            await self.world.choose(value, action)
        except Exception as missing:  # simcord's own, for an option that is not there
            opened = next((label for label in self.world.controls() if label.startswith("🔍")), None)
            if opened is None:
                raise missing
            await self.world.ada.submit_modal(await self.world.click(opened), {"query": value[:40]})
            await self.world.choose(value, action)

    async def values(self, **typed: str) -> None:
        """Tune by hand, with these values of the data loader."""
        await self.world.choose("manual", "tuning")
        opened = await self.world.click("Data loader…")
        values = {item["component"]["custom_id"]: item["component"]["value"] for item in opened.modal["components"]}
        await self.world.ada.submit_modal(opened, values | typed)
        await self.world.click("Next")

    async def start(self, name: str) -> None:
        """Name it, look at the review, press Start twice."""
        world = self.world
        opened = await world.click("Edit names…")
        await world.ada.submit_modal(opened, {"name": name, "description": "", "model_name": ""})
        await world.click("Next")
        assert "Everything right?" in world.words() and name in world.words()
        start, before = world.controls()["Start"], world.thread.name
        await world.click("Start")
        await world.press(start)
        assert world.thread.name == (name if before.startswith("Training with") else before)

    async def result(self, name: str, *pictures: str) -> Task:
        """Wait for the result: metrics, pictures, one announcement, one task of one job."""
        world = self.world
        await self.until(lambda: f"“{name}” is trained" in world.words())
        with world.database.read() as session:
            task = session.query(Task).filter_by(name=name).one()
            assert task.state == "finished" and session.query(Job).filter_by(task_id=task.id).count() == 1
        shown = [
            item["description"] for gallery in world.walk(world.wizard.components) if gallery["type"] == 12 for item in gallery["items"]
        ]
        for picture in pictures:
            assert any(picture in words for words in shown), shown
        (announced,) = (post for post in world.posts(world.channel) if f"“{name}” is trained" in post)
        assert f"<#{world.thread.id}>" in announced
        return task

    async def try_on(self, image: bytes) -> str:
        """Press “Test an image” and read the answer, which comes with a picture."""
        opened = await self.world.click("Test an image")
        answered = await self.world.ada.submit_modal(opened, {"file": [("some.png", image)]})
        (answer,) = answered.followups
        assert [item for item in self.world.walk(answer.components) if item["type"] == 12], self.world.words(answer)
        return str(self.world.words(answer))
