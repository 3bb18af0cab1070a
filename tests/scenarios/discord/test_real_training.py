"""The whole way in a server: an archive sent in chat, imported and trained on by real workers, the result in the thread."""

import asyncio
import io
import os
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from subprocess import Popen
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bot.terminal.embedded_valkey import EmbeddedValkey
from core.db.tables import Dataset, Task
from core.settings import Settings

pytestmark = [pytest.mark.asyncio, pytest.mark.long, pytest.mark.timeout(600)]


@pytest.fixture
def engine_room(settings: Settings) -> Iterator[list[Popen[bytes]]]:
    valkey = EmbeddedValkey(settings)
    valkey.start()
    environment = dict(os.environ) | {"STATIONMASTER_HOME": str(settings.home), "STATIONMASTER_OFFLINE": "1"}
    workers = [Popen([sys.executable, "-m", "worker", "--kind", kind], env=environment) for kind in ("gpu", "light")]
    yield workers
    for worker in workers:
        worker.terminate()
    for worker in workers:
        worker.wait(60)
    valkey.stop()


def bright_and_dark() -> bytes:
    """Forty images of 32 × 32 that anything can tell apart."""
    draws = np.random.default_rng(0)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for label, level in (("bright", 200), ("dark", 40)):
            for number in range(20):
                pixels = (level + draws.integers(-30, 30, (32, 32, 3))).astype(np.uint8)
                drawn = io.BytesIO()
                Image.fromarray(pixels).save(drawn, "PNG")
                archive.writestr(f"{label}/{number}.png", drawn.getvalue())
    return packed.getvalue()


async def until(world: Any, done: Callable[[], bool], seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, world.posts(world.thread) if world.channel.threads else world.posts(world.channel)
        await asyncio.sleep(0.3)
        await world.tick()


async def test_from_an_archive_in_the_chat_to_a_model(world: Any, engine_room: list[Popen[bytes]], said: Any) -> None:
    await world.ada.slash(world.channel, "datasets", **{"import": ("light.zip", bright_and_dark())})
    await until(world, lambda: any("is ready" in post for post in world.posts(world.channel)))
    with world.database.read() as session:
        dataset = session.query(Dataset).one()
    await world.ada.slash(world.channel, "train", task_type="single-label", dataset=dataset.id)
    gallery = [item for item in world.walk(world.wizard.components) if item["type"] == 12]
    assert gallery and gallery[0]["items"][0]["description"].startswith("Images 1–40 of 40")
    await world.click("Next")
    await world.choose("manual", "selection")
    await world.choose("MobileNet", "family")
    await world.choose("mobilenetv3_small_050", "network")
    await world.choose("none", "pretraining")
    await world.click("Next")
    await world.choose("manual", "tuning")
    opened = await world.click("Data loader…")
    values = {item["component"]["custom_id"]: item["component"]["value"] for item in opened.modal["components"]}
    await world.ada.submit_modal(opened, values | {"epochs": "3", "batch_size": "8", "image_size": "32"})
    for label in ("Next", "Next", "Start"):
        await world.click(label)
    await until(world, lambda: "Training has started" in world.words() or "epoch" in world.words())
    await world.restart()
    await until(world, lambda: "is trained" in world.words())
    with world.database.read() as session:
        task = session.query(Task).one()
        assert task.state == "finished" and task.metrics["accuracy"] >= 0
    pictures = [item for item in world.walk(world.wizard.components) if item["type"] == 12]
    assert pictures and len(pictures[0]["items"]) >= 2, "curves and a confusion matrix"
    assert "is trained" in world.posts(world.channel)[-1]
