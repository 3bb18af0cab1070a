"""The whole way in a server: an archive sent in the chat, imported and trained on by real workers, the result in the thread, the model tried.

For each task type and flow, with what befalls a bot on the way: other people press, it restarts, an acknowledgement comes too late, Discord
is busy, a message grows old.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from discord_journey import Journey
from drawn_archives import archive_of, image_of, regions_of
from engine_room import engine_room as workers_of

from core.db.migrate import upgrade
from core.db.session import Database
from core.db.tables import AnnotationSet, Model
from core.settings import Settings
from core.vocabulary import TaskType

pytestmark = [pytest.mark.asyncio, pytest.mark.long, pytest.mark.timeout(600)]

OLD = "Maximum number of edits to messages older than 1 hour reached. Try again later."


@pytest.fixture(scope="module")
def engine_room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """One home for all conversations of this module, with a queue and two workers that take their time to start."""
    settings = Settings(home=tmp_path_factory.mktemp("home"), offline=True)
    upgrade(Database.of(settings))
    with workers_of(settings):
        yield settings


@pytest.fixture
def settings(engine_room: Settings) -> Settings:
    return engine_room


@pytest.fixture
def journey(world: Any, monkeypatch: pytest.MonkeyPatch, settings: Settings) -> Journey:
    monkeypatch.setenv("STATIONMASTER_HOME", str(settings.home))
    return Journey(world)


async def test_single_label_with_everything_that_befalls_a_bot(world: Any, journey: Journey) -> None:
    dataset = await journey.send("light", archive_of(TaskType.SINGLE_LABEL, 40))
    await world.ada.slash(world.channel, "train", task_type="single-label", dataset=dataset.id)
    gallery = [item for item in world.walk(world.wizard.components) if item["type"] == 12]
    assert gallery and gallery[0]["items"][0]["description"].startswith("Images 1–40 of 40")
    refused = await world.click("Next", who=world.bob)
    assert refused.followups[0].ephemeral and "belongs to ada" in world.words(refused.followups[0])
    world.env.inject_error("POST", "/interactions/*/callback", status=404, code=10062, message="Unknown interaction")
    assert not (await world.click("Next")).acknowledged
    await world.click("Next")
    await world.restart()
    world.env.inject_error("PATCH", "/webhooks/*", status=429, message="You are being rate limited.")
    await journey.network("MobileNet", "mobilenetv3_small_050")
    await world.env.advance_time(7200)
    world.env.inject_error("PATCH", "/webhooks/*", status=429, code=30046, message=OLD, times=1)
    await journey.values(epochs="80", batch_size="8", image_size="32")  # longer than the pauses between edits on any machine
    await journey.start("Dark or bright")
    await journey.until(lambda: "Training has started" in world.words() or "epoch" in world.words())
    refused = await world.click("Stop and discard", who=world.bob)
    assert refused.ephemeral
    world.env.inject_error("PATCH", "/channels/*/messages/*", status=429, message="You are being rate limited.")
    await world.restart()
    await journey.result("Dark or bright", "Curves", "Confusion matrix")
    assert "Assessment: " in world.words()
    assert "bright" in await journey.try_on(image_of())


async def test_several_labels(world: Any, journey: Journey) -> None:
    dataset = await journey.send("patches", archive_of(TaskType.MULTI_LABEL, 32))
    await world.ada.slash(world.channel, "train")
    for value, action in (("general", "flow"), ("multi-label", "task-type")):
        await world.choose(value, action)
        await world.click("Next")
    await world.choose(dataset.id, "dataset")
    await world.click("Next")
    await journey.network("MobileNet", "mobilenetv3_small_050")
    await journey.values(epochs="2", batch_size="8", image_size="32")
    await journey.start("Left and right")
    await journey.result("Left and right", "Curves")
    assert "left" in await journey.try_on(image_of())


@pytest.mark.parametrize(
    ("task_type", "kind", "family", "network", "picture"),
    [
        ("object-detection", "boxes", "SSD", "ssdlite320_mobilenet_v3_large", "Precision over recall"),
        ("object-segmentation", "instances", "Mask R-CNN", "mask_rcnn-mobilenetv3_small_100", "Curves"),
        ("object-segmentation", "regions", "LR-ASPP", "lraspp_mobilenet_v3_large", "How well each class is known"),
    ],
)
async def test_objects(world: Any, journey: Journey, task_type: str, kind: str, family: str, network: str, picture: str) -> None:
    archive = regions_of(16) if kind == "regions" else archive_of(TaskType(task_type), 16)
    dataset = await journey.send(f"squares as {kind}", archive)
    await world.ada.slash(world.channel, "train", task_type=task_type, dataset=dataset.id)
    with world.database.read() as session:
        sets = {one.kind: one.id for one in session.query(AnnotationSet).filter_by(dataset_id=dataset.id)}
    assert kind in sets
    if any("choose:annotation-set" in str(item.get("custom_id")) for item in world.walk(world.wizard.components)):
        await world.choose(sets[kind], "annotation-set")
    await world.click("Next")
    await journey.network(family, network)
    await journey.values(epochs="2", batch_size="4", image_size="64")
    await journey.start(f"Squares, {kind}")
    await journey.result(f"Squares, {kind}", picture)
    await journey.try_on(image_of())


async def test_specialized(world: Any, journey: Journey) -> None:
    archive = archive_of(TaskType.SINGLE_LABEL, 24, classes=("normal", "pneumothorax"))
    dataset = await journey.send("chests", archive)
    await world.ada.slash(world.channel, "train")
    await world.choose("specialized", "flow")
    await world.click("Next")
    await journey.search("pneumothorax", "preset")
    await world.click("Next")
    await world.choose(dataset.id, "dataset")
    assert "◉ **Dataset** ─ ○ Hyperparameters ─ ○ Start" in world.words()
    await world.click("Next")
    assert "Tell us about your images" not in world.words() and "Model preference" not in world.words()
    await journey.values(epochs="1", batch_size="8", image_size="32")
    await journey.start("Air beside the lung")
    await journey.result("Air beside the lung", "Curves")


async def test_retraining(world: Any, journey: Journey) -> None:
    await journey.send("first", archive_of(TaskType.SINGLE_LABEL, 24))
    second = await journey.send("second", archive_of(TaskType.SINGLE_LABEL, 24, classes=("bright", "dim")))
    await world.ada.slash(world.channel, "train", task_type="single-label", dataset="first")
    await world.click("Next")
    await journey.network("MobileNet", "mobilenetv3_small_050")
    await journey.values(epochs="1", batch_size="8", image_size="32")
    await journey.start("At first")
    await journey.result("At first")
    await world.click("Retrain")
    await world.choose(second.id, "dataset")
    assert "Hyperparameters" in world.words()
    await world.click("Next")
    await journey.values(epochs="1", batch_size="8", image_size="32")
    await journey.start("And then")
    task = await journey.result("And then")
    with world.database.read() as session:
        model = session.get_one(Model, task.model_id)
        assert task.flow == "retraining" and set(model.classes) == {"bright", "dim"}
