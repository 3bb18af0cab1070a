"""Whole conversations in Slack, from the first word to the result of a real training: each task type, each flow.

The local Slack refuses whatever Slack would, and so fails the test.
"""

import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from drawn_archives import archive_of, image_of
from slack_bot import Bot
from slack_person import Person, labels, pictures, read

import bot.notifier
from bot.slack.poster import SlackPoster
from core.vocabulary import TaskType

pytestmark = [pytest.mark.usefixtures("engine_room"), pytest.mark.timeout(600)]


def until(running: Bot, done: Callable[[], Any], what: str, seconds: float = 280) -> Any:
    """Let the bot go on until something has come to pass."""
    deadline = time.monotonic() + seconds
    while not (found := done()):
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.2)
        running.notifier.tick()
        running.settle()
    return found


def thread_of(person: Person) -> list[dict[str, Any]]:
    return person.slack.messages(person.channel, person.thread())


def bring_in(person: Person, running: Bot, name: str, task_type: TaskType, **changes: Any) -> None:
    """Send an archive with a mention, and wait until its thread says that the dataset is ready."""
    file = person.slack.add_file(f"{name}.zip", archive_of(task_type, **changes), "application/zip")
    sent = person.mention("", files=[file])
    thread = lambda: [read(item) for item in person.slack.messages(person.channel, sent["ts"])]  # noqa: E731
    assert "is being imported" in thread()[0]
    until(running, lambda: any(f"“{name}” is ready: 60 images" in item for item in thread()), f"{name} is imported")


def with_values(person: Person, **values: str) -> None:
    """Manual tuning, with some values of the form typed."""
    person.choose("choose:tuning", "Manual")
    person.press("Data loader")
    assert person.fill(**values).payload in (None, {})


def choose_network(person: Person, family: str, network: str) -> None:
    person.choose("choose:selection", "Manual")
    person.choose("choose:family", family)
    person.choose("choose:network", network)
    person.choose("choose:pretraining", "None")


def start(person: Person, name: str) -> None:
    person.press("Next")
    person.press("Edit names")
    person.fill(name=name, description="Tried in a conversation")
    person.press("Next")
    assert "Everything right?" in person.read() and name in person.read()
    person.press("Start")
    assert "in the queue" in person.read()


def trained(person: Person, running: Bot, name: str, *, long_enough_for_a_bar: bool = False) -> dict[str, Any]:
    """The result, after the progress message has shown what matters; a bar only where the training outlasts the pause between two edits."""

    def result() -> dict[str, Any] | None:
        return next((item for item in thread_of(person) if f"“{name}” is trained" in read(item)), None)

    found: dict[str, Any] = until(running, result, f"{name} is trained")
    # Every state in which the message has been, however shortly: a small training is quicker than whoever looks at the thread.
    sent = [*person.slack.calls_of("chat.postMessage"), *person.slack.calls_of("chat.update")]
    during = "\n".join(read(item) for item in sent if item.get("blocks") and "Hyperparameters" in labels(item))
    assert re.search(r"Waiting|Training has started|epoch \d+ of \d+", during), during
    if long_enough_for_a_bar:
        assert re.search(r"[█░]{20}", during) and re.search(r"epoch \d+ of \d+", during) and "images/s" in during, during
    for button in ("Stop, keep the best", "Stop and discard", "Details", "Hyperparameters"):
        assert button in during
    announced = [
        read(item) for item in person.slack.messages(person.channel) if "📣" in read(item) and f"“{name}” is trained" in read(item)
    ]
    assert len(announced) == 1
    assert {"Test an image", "Retrain", "Download"} <= set(labels(found))
    return found


def test_single_label_from_an_archive_to_a_model_that_is_tried_and_downloaded(
    person: Person, running: Bot, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So that the training is seen at work, however quick the machine is.
    monkeypatch.setattr(bot.notifier, "EDIT_SECONDS", 0.0)
    monkeypatch.setattr(SlackPoster, "edits_per_minute", 0)
    bring_in(person, running, "lights", TaskType.SINGLE_LABEL)
    person.command("/train", "classification lights")
    assert "Which dataset?" in person.read() and len(pictures(person.screen())) == 1
    assert "Images 1–50 of 60" in person.read()
    person.press("More images")
    assert "Images 51–60 of 60" in person.read() and len(pictures(person.screen())) == 1
    person.press("Previous images")
    person.press("Next")
    choose_network(person, "MobileNet", "mobilenetv3_small_050")
    person.press("Next")
    with_values(person, epochs="40", batch_size="8", image_size="32")
    start(person, "Lights & <darks>")
    result = trained(person, running, "Lights & <darks>", long_enough_for_a_bar=True)
    assert len(pictures(result)) >= 3, "curves, confusion matrix, best and worst"
    assert "Accuracy" in read(result) and "Majority-class baseline" in read(result)

    # An image sent in the thread is answered there; the same by the dialog of the button.
    thread = person.thread()
    person.say("and this?", thread=thread, files=[person.slack.add_file("this.png", image_of(), "image/png")])
    running.settle()
    assert len(pictures(thread_of(person)[-1])) == 1 and re.search(r"(bright|dark).*%", read(thread_of(person)[-1]))
    before = len(thread_of(person))
    person.press("Test an image", result)
    person.fill(files=[person.slack.add_file("that.png", image_of(40), "image/png")])
    running.settle()
    assert len(thread_of(person)) == before + 1 and len(pictures(thread_of(person)[-1])) == 1

    person.press("Download", result)
    running.settle()
    (sent,) = [item for item in thread_of(person) if item.get("files") and item.get("bot_id")]
    assert person.slack.files[sent["files"][0]]["content"][:2] == b"PK"


@pytest.mark.long
@pytest.mark.parametrize(
    ("task_type", "words", "family", "network", "metric"),
    [
        (TaskType.MULTI_LABEL, "multi-label", "MobileNet", "mobilenetv3_small_050", "Macro F1"),
        (TaskType.OBJECT_DETECTION, "detection", "SSD", "ssdlite320_mobilenet_v3_large", "AP 50"),
        (TaskType.OBJECT_SEGMENTATION, "segmentation", "LR-ASPP", "lraspp_mobilenet_v3_large", "Dice"),
        (TaskType.OBJECT_SEGMENTATION, "segmentation", "Mask R-CNN", "mask_rcnn-mobilenetv3_small_100", "AP 50"),
    ],
    ids=["multi-label", "boxes", "regions", "instances"],
)
def test_other_task_types(person: Person, running: Bot, task_type: TaskType, words: str, family: str, network: str, metric: str) -> None:
    name = f"things for {family}"
    bring_in(person, running, name, task_type)
    person.command("/train", f"{words} {name}")
    if "Annotation set" in person.read():
        person.choose("choose:annotation-set", "regions" if metric == "Dice" else "instances")
    assert len(pictures(person.screen())) == 1
    person.press("Next")
    choose_network(person, family, network)
    person.press("Next")
    with_values(person, epochs="2", batch_size="8", image_size="64")
    start(person, f"Learn {name}")
    result = trained(person, running, f"Learn {name}")
    assert metric in read(result) and len(pictures(result)) >= 2
    person.say("", thread=person.thread(), files=[person.slack.add_file("this.png", image_of(), "image/png")])
    running.settle()
    assert len(pictures(thread_of(person)[-1])) == 1


@pytest.mark.long
def test_a_prepared_application(person: Person, running: Bot) -> None:
    bring_in(person, running, "chests", TaskType.SINGLE_LABEL, classes=("pneumothorax", "normal"))
    person.command("/train")
    person.choose("choose:flow", "Specialized")
    person.press("Next")
    person.choose("choose:preset", "Pneumothorax")
    person.press("Next")
    person.choose("choose:dataset", "chests")
    assert len(pictures(person.screen())) == 1
    person.press("Next")
    assert "How shall it be tuned?" in person.read()  # neither network nor data type is asked for
    with_values(person, epochs="1", batch_size="8", image_size="32")
    start(person, "Is there air?")
    result = trained(person, running, "Is there air?")
    assert "Accuracy" in read(result) and len(pictures(result)) >= 3


@pytest.mark.long
def test_a_model_learns_on(person: Person, running: Bot) -> None:
    bring_in(person, running, "first lights", TaskType.SINGLE_LABEL)
    bring_in(person, running, "more lights", TaskType.SINGLE_LABEL, seed=1)
    person.command("/train", "classification first lights")
    person.press("Next")
    choose_network(person, "MobileNet", "mobilenetv3_small_050")
    person.press("Next")
    with_values(person, epochs="1", batch_size="8", image_size="32")
    start(person, "Teacher")
    result = trained(person, running, "Teacher")
    before = person.thread()
    person.press("Retrain", result)
    assert person.thread() == before, "it goes on in the same thread"
    screens = [item for item in thread_of(person) if any(block["type"] == "header" for block in item["blocks"])]
    person.choose("choose:dataset", "more lights", screens[-1])
    wizard = lambda: [item for item in thread_of(person) if any(block["type"] == "header" for block in item["blocks"])][-1]  # noqa: E731
    person.press("Next", wizard())
    assert "How shall it be tuned?" in read(wizard())
    person.choose("choose:tuning", "Manual", wizard())
    person.press("Data loader", wizard())
    person.fill(epochs="1", batch_size="8", image_size="32")
    person.press("Next", wizard())
    person.press("Edit names", wizard())
    person.fill(name="Pupil")
    person.press("Next", wizard())
    assert "Learns on from  Teacher" in read(wizard()).replace("*", "")
    person.press("Start", wizard())
    assert "Accuracy" in read(trained(person, running, "Pupil"))
