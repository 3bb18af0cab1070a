#!/usr/bin/env python3
"""Draws what people see in Discord: a real conversation with the real bot and a real training, each screen as a picture.

    pip install "simcord[screenshot]" && playwright install chromium       # beyond the [dev] extra
    python tools/draw_discord_messages.py docs/discord

The server is simcord's, in memory; so is the page that shows a message as Discord's app would.
"""

import asyncio
import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "fakes")]

WIDTH, HEIGHT = 700, 2400  # of the window, in pixels; a picture shows the message alone
PATIENCE = 420.0  # seconds


async def draw(world: Any, folder: Path, name: str, target: Any, channel: Any = None) -> None:
    """Save a message or an opened dialog as a picture."""
    async with world.env.preview(channel or world.thread, viewers=[world.ada], display="fixed", width=WIDTH, height=HEIGHT) as page:
        drawn = await page.screenshot(target=target, allow_incomplete=True)
    picture = Image.open(io.BytesIO(drawn.png)).convert("RGB")
    picture.quantize(256, dither=Image.Dither.NONE).save(folder / f"{name}.png", optimize=True)


async def until(world: Any, done: Callable[[], bool]) -> None:
    """Let the worker and the notifier go on until something is to be seen."""
    deadline = time.monotonic() + PATIENCE
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError(f"nothing more came after {world.words()}")
        await asyncio.sleep(0.3)
        await world.tick()


async def converse(world: Any, folder: Path) -> None:
    """The conversation, drawn step by step."""

    async def show(name: str, target: Any = None, channel: Any = None) -> None:
        await draw(world, folder, name, target or world.wizard, channel)

    ada, channel = world.ada, world.channel
    await ada.slash(channel, "train")
    await world.click("Next")
    await world.choose("single-label", "task-type")
    await show("task-type")
    await world.click("Next")
    dataset = next(item["options"][0]["value"] for item in world.walk(world.wizard.components) if item["type"] == 3)
    await world.choose(dataset, "dataset")
    await show("dataset")
    await world.click("Next")
    await world.choose("document", "data-type")
    await show("model")
    for value, action in (("manual", "selection"), ("DenseNet", "family"), ("densenet121", "network"), ("none", "pretraining")):
        await world.choose(value, action)
    await world.click("Next")
    await world.choose("manual", "tuning")
    opened = await world.click("Data loader…")
    await show("dialog", opened)
    values = {item["component"]["custom_id"]: item["component"]["value"] for item in opened.modal["components"]}
    await ada.submit_modal(opened, values | {"epochs": "300"})
    await show("mend")
    await world.click("Back")
    await world.choose("auto", "selection")
    await world.click("Next")
    await world.click("Next")
    await show("review")
    await world.click("Start")
    await until(world, lambda: "epoch 4" in world.words() and any(item["type"] == 12 for item in world.walk(world.wizard.components)))
    await show("progress")
    await show("stop", (await world.click("Stop, keep the best")).response)
    await until(world, lambda: "is trained" in world.words())
    await show("result")
    await show("announcement", newest_of(world), channel)
    await show("tasks", (await ada.slash(channel, "tasks")).response, channel)
    await show("refusal", (await ada.slash(channel, "datasets", address="/etc", name="x")).response, channel)


def newest_of(world: Any) -> Any:
    """The newest message of the channel."""
    from discord_world import newest

    return newest(world.env, world.channel)


async def main() -> None:
    """Draw everything into the folder that was named."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    import pytest
    import simcord
    from discord_permissions import apply_rules_of_threads
    from discord_world import laboratory

    from bot.discord.app import create_bot
    from bot.terminal.embedded_valkey import EmbeddedValkey
    from core.datasets.importing import import_dataset
    from core.datasets.samples import write_sample
    from core.db.migrate import upgrade
    from core.db.session import Database
    from core.settings import Settings
    from core.storage import Storage

    pictures = Path(sys.argv[1]).absolute()
    pictures.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {"STATIONMASTER_HOME": f"{home}/home", "STATIONMASTER_OFFLINE": "1"}
        settings = Settings()
        database, storage = Database.of(settings), Storage.of(settings)
        upgrade(database)
        source = str(write_sample("digits", Path(home) / "digits"))
        import_dataset(database, storage, settings, workspace="default", person="discord:0", name="digits", source=source)
        valkey = EmbeddedValkey(settings)
        valkey.start()
        worker = subprocess.Popen([sys.executable, "-m", "worker", "--kind", "gpu"], cwd=ROOT)
        try:
            with pytest.MonkeyPatch.context() as patch:
                apply_rules_of_threads(patch)
                async with simcord.run(create_bot(settings, database=database, storage=storage, notifies=False)) as env:
                    env.backend.bot_user.name = "Stationmaster"
                    await converse(laboratory(env, settings, database, storage, []), pictures)
        finally:
            worker.terminate()
            worker.wait(60)
            valkey.stop()


if __name__ == "__main__":
    asyncio.run(main())
