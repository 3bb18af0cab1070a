#!/usr/bin/env python3
"""Draws what people see in Slack: real conversations with a local Slack server, from /train to the result, as pictures.

    python tools/draw_slack_messages.py docs/pictures

Every message is what the bot sent (Block Kit), drawn with Slack's layout; the pictures in them are those that were uploaded. Writes
`slack-wizard.png`, `slack-training.png`, `slack-datasets.png` and `slack-home.png`, or pages of HTML where no Chromium is installed.
"""

import io
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tools"), str(ROOT / "tests" / "fakes"), str(ROOT / "tests" / "support")]

from PIL import Image
from slack_drawing import Drawer, page_of
from slack_person import Person
from slack_server import APP_TOKEN, BOT_TOKEN, FakeSlack

from bot.notifier import LIGHT_SECONDS, Notifier
from bot.slack.app import RunningSlack, start
from bot.terminal.embedded_valkey import EmbeddedValkey
from core.clock import now
from core.datasets.importing import import_dataset
from core.datasets.samples import load_digits
from core.db.migrate import upgrade
from core.db.session import Database
from core.db.tables import Job, LightJob
from core.settings import Settings
from core.storage import Storage
from core.tasks.lifecycle import claim_job, fail_job

ADA = "U0000ADA"
DIGITS_PER_CLASS = 150


@dataclass
class Stage:
    """A bot with workers, somebody who talks to it, and the pages that come of it."""

    slack: FakeSlack
    face: RunningSlack
    database: Database
    storage: Storage
    settings: Settings
    person: Person
    drawer: Drawer
    trainer: subprocess.Popen[bytes]
    pages: dict[str, list[str]] = field(default_factory=dict)
    page: str = ""

    def __post_init__(self) -> None:
        self.notifier = Notifier(self.database, self.storage, (self.face.poster,), lambda: 1)

    def title(self, text: str) -> None:
        """A heading of the page."""
        self.pages.setdefault(self.page, []).append(f"<h2>{text}</h2>")

    def draw(self, html: str) -> None:
        """Something drawn, on the page."""
        self.pages[self.page].append(html)

    def screen(self, title: str) -> None:
        """The wizard's message as it stands, under a heading."""
        self.title(title)
        self.draw(self.drawer.message(self.person.screen()))

    def thread(self) -> list[dict[str, Any]]:
        """The newest thread's messages."""
        return self.slack.messages(self.person.channel, self.person.thread())

    def until(self, done: Callable[[], Any], seconds: float = 900) -> Any:
        """Let the bot go on until `done()`, and return what that says."""
        deadline = time.monotonic() + seconds
        while not (found := done()):
            if time.monotonic() > deadline:
                raise SystemExit("that took too long")
            self.notifier.tick()
            self.face.board.settle(60)
            time.sleep(0.5)
        return found


def digits(*, damaged: bool = False, per_class: int = DIGITS_PER_CLASS) -> bytes:
    """A zip of class folders."""
    pictures, labels = load_digits()
    packed, counts = io.BytesIO(), dict.fromkeys(range(10), 0)
    with zipfile.ZipFile(packed, "w") as archive:
        for picture, label in zip(pictures, labels, strict=True):
            if counts[int(label)] < per_class:
                counts[int(label)] += 1
                drawn = io.BytesIO()
                Image.fromarray(picture).save(drawn, "PNG")
                archive.writestr(f"{label}/{counts[int(label)]:03}.png", drawn.getvalue())
        if damaged:
            archive.writestr("7/scan 12.png", b"cut off")
            archive.writestr("7/scan 13.png", b"")
    return packed.getvalue()


@contextmanager
def stage() -> Iterator[Stage]:
    """Everything running, and a dataset that is there already."""
    with tempfile.TemporaryDirectory() as folder, FakeSlack() as slack:
        os.environ |= {
            "STATIONMASTER_HOME": f"{folder}/home",
            "STATIONMASTER_SLACK_API_URL": slack.api_url,
            "STATIONMASTER_SLACK_BOT_TOKEN": BOT_TOKEN,
            "STATIONMASTER_SLACK_APP_TOKEN": APP_TOKEN,
        }
        settings = Settings()
        database, storage = Database.of(settings), Storage.of(settings)
        upgrade(database)
        source = Path(folder) / "digits.zip"
        source.write_bytes(digits())
        import_dataset(database, storage, settings, workspace="default", person=f"slack:{ADA}", name="digits", source=str(source))
        valkey = EmbeddedValkey(settings)
        valkey.start()
        workers = [subprocess.Popen([sys.executable, "-m", "worker", "--kind", kind], cwd=ROOT) for kind in ("gpu", "light")]
        face = start(settings, database, storage)
        try:
            person = Person(slack, lambda: face.board.settle(120))
            names = {user: data["profile"]["real_name"] for user, data in slack.users.items()}
            yield Stage(slack, face, database, storage, settings, person, Drawer(slack.files, names), workers[0])
            if slack.violations:
                raise SystemExit(f"Slack would not have taken this: {slack.violations}")
        finally:
            face.stop()
            for worker in workers:
                worker.terminate()
            for worker in workers:
                worker.wait(60)
            valkey.stop()


def wizard(stage: Stage) -> None:
    """From /train to the review."""
    stage.page, person = "slack-wizard", stage.person
    stage.title("/train in a channel: one line, and a conversation in its thread")
    person.command("/train")
    stage.draw(stage.drawer.message(stage.slack.messages(person.channel)[-1], thread=False))
    person.press("Next")
    person.choose("choose:task-type", "Single-label")
    stage.draw(stage.drawer.message(person.screen()))
    person.press("Next")
    person.choose("choose:dataset", "digits")
    stage.screen("The same message, a step further: which dataset? With its labelled images")
    person.press("Next")
    person.choose("choose:data-type", "Documents")
    stage.screen("Which network? A suggestion, and why")
    person.choose("choose:selection", "Manual")
    person.choose("choose:family", "MobileNet")
    person.choose("choose:network", "mobilenetv3_small_050")
    person.choose("choose:pretraining", "None")
    person.press("Next")
    person.choose("choose:tuning", "Manual")
    person.press("Data loader")
    stage.title("Typed fields open a dialog; what is out of range is marked at its field")
    answer = person.fill(epochs="500", batch_size="32", image_size="28")
    stage.draw(stage.drawer.modal(stage.person.opened(), (answer.payload or {}).get("errors")))
    person.fill(epochs="12", batch_size="32", image_size="32")
    person.press("Manual assignment")
    person.fill(learning_rate="0.05", momentum="0.9")
    person.press("Augmentation")
    person.fill(horizontal_flip="off", rotation="off", resized_crop="off", colour_jitter="off")
    person.press("Next")
    person.press("Edit names")
    person.fill(name="Handwritten digits", description="Scans of the spring forms")
    person.press("Next")
    stage.screen("Everything right?")
    person.press("Start")


def training(stage: Stage) -> None:
    """The thread of the training, down to the result, an image tried, and a failure."""
    stage.page, person = "slack-training", stage.person
    waiting = stage.until(lambda: next((item for item in stage.thread() if "Hyperparameters" in str(item["blocks"])), None))
    stage.title("In the thread: one message that changes. First it waits …")
    stage.draw(stage.drawer.message(dict(waiting)))
    running = stage.until(lambda: next((item for item in stage.thread() if "epoch 5" in str(item) and "slack_file" in str(item)), None))
    stage.title("… then it trains")
    stage.draw(stage.drawer.message(dict(running)))
    person.press("Details", running)
    stage.title("Details")
    stage.draw(stage.drawer.modal(person.opened()))
    result = stage.until(lambda: next((item for item in stage.thread() if "is trained" in str(item["blocks"])), None))
    stage.title("The result is a message of its own")
    stage.draw(stage.drawer.message(result))
    stage.title("An image sent in the thread is tried at once")
    drawn = io.BytesIO()
    Image.fromarray(load_digits()[0][4_321]).save(drawn, "PNG")
    sent = person.say("and this one?", thread=person.thread(), files=[stage.slack.add_file("form 17.png", drawn.getvalue(), "image/png")])
    stage.draw(stage.drawer.message(sent))
    stage.draw(stage.drawer.message(stage.thread()[-1]))
    stage.title("One line in the channel")
    stage.draw(stage.drawer.message(stage.slack.messages(person.channel)[-1], thread=False))
    stage.title("When something goes wrong")
    stage.trainer.terminate()  # the training that fails is one that no worker takes
    stage.trainer.wait(60)
    person.command("/train", "classification digits")
    person.press("Next")
    person.choose("choose:data-type", "Documents")
    for label in ("Next", "Next", "Start"):
        person.press(label)
    with stage.database.write() as session:
        job = session.query(Job).filter(Job.state == "waiting").one()
        claim_job(session, job.id, job.generation, worker="w", device="NVIDIA L4")
    with stage.database.write() as session:
        fail_job(
            session,
            job.id,
            job.generation,
            "Not even one image at a time fits into the GPU's memory.",
            "Choose a smaller network, or a smaller input size.",
        )
    failed = stage.until(lambda: next((item for item in stage.thread() if "ended with an error" in str(item["blocks"])), None))
    stage.draw(stage.drawer.message(failed))


def datasets(stage: Stage) -> None:
    """An archive in chat, what was found in it, and what can be done with datasets."""
    stage.page, person = "slack-datasets", stage.person
    person.command("/datasets")
    stage.title("/datasets")
    stage.draw(stage.drawer.message(newest_answer(stage), thread=False, only="you"))
    person.press("Import a dataset", newest_answer(stage))
    stage.title("Import a dataset: a file, or a URI")
    stage.draw(stage.drawer.modal(person.opened()))
    stage.title("Or simply send an archive to the bot")
    file = stage.slack.add_file("spring forms.zip", digits(damaged=True, per_class=20), "application/zip")
    sent = person.mention("", files=[file])
    stage.draw(stage.drawer.message(sent, thread=False))
    place = {"face": "slack", "channel": f"{person.team}/{person.channel}", "thread": sent["ts"]}
    thread = lambda: stage.slack.messages(person.channel, sent["ts"])  # noqa: E731
    found = stage.until(lambda: next((item for item in thread() if "Keep the good part" in str(item["blocks"])), None))
    with stage.database.write() as session:  # one that takes longer, as it stands in the database while a worker is at it
        large = LightJob(workspace="default", kind="import", payload={"name": "autumn forms"}, created_by=f"slack:{ADA}", place=place)
        large.untold_face, large.state, large.worker = "slack", "running", "w"
        large.created_at = large.heartbeat_at = now()
        large.result = {"done": 12_400, "total": 31_000}
        session.add(large)
    time.sleep(LIGHT_SECONDS)
    running = stage.until(lambda: next((item for item in thread() if "12,400 of 31,000" in str(item["blocks"])), None))
    stage.draw(stage.drawer.message(thread()[0]))
    stage.draw(stage.drawer.message(running))
    stage.draw(stage.drawer.message(found))
    person.press("Keep the good part", found)
    stage.draw(stage.drawer.message(thread()[-1]))
    person.command("/datasets", "digits")
    person.press("digits", newest_answer(stage))
    stage.title("A dataset: images with their labels, page by page")
    stage.draw(stage.drawer.message(newest_answer(stage), thread=False, only="you"))
    person.press("Statistics", newest_answer(stage))
    stage.title("Statistics")
    stage.draw(stage.drawer.message(newest_answer(stage), thread=False, only="you"))
    person.press("Delete", next(item for item in reversed(answers(stage)) if "Delete" in str(item["blocks"])))
    stage.title("Deleting is typed")
    answer = person.fill(confirmation="delete")
    stage.draw(stage.drawer.modal(person.opened(), (answer.payload or {}).get("errors")))


def home(stage: Stage) -> None:
    """The App Home."""
    stage.page = "slack-home"
    stage.title("The Home tab")
    stage.draw(stage.drawer.home(stage.person.open_home()))
    stage.person.command("/train-help")
    stage.title("/train-help")
    stage.draw(stage.drawer.message(newest_answer(stage), thread=False, only="you"))


def answers(stage: Stage) -> list[dict[str, Any]]:
    """What only the person has been told, the newest last."""
    given = [item for used in stage.slack.responses.values() for item in used] + stage.slack.ephemerals
    return sorted(given, key=lambda item: (float(item["ts"]), item["ts"].partition(".")[2]))


def newest_answer(stage: Stage) -> dict[str, Any]:
    """The last of these."""
    return answers(stage)[-1]


def photograph(page: Path) -> None:
    """A PNG beside the page, as tall as it is, by Chromium."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        return
    picture = page.with_suffix(".png")
    command = [chromium, "--headless", "--no-sandbox", "--hide-scrollbars", f"--screenshot={picture}", "--window-size=760,9000", str(page)]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    with Image.open(picture) as drawn:
        rows = drawn.convert("L").point(lambda value: 255 if value < 250 else 0).getbbox()
        cut = drawn.convert("RGB").crop((0, 0, drawn.width, min(drawn.height, (rows[3] if rows else drawn.height) + 16)))
    cut.quantize(128, dither=Image.Dither.NONE).save(picture, optimize=True)
    page.unlink()


def main() -> None:
    """Write the pictures."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    with stage() as played:
        for scene in (wizard, training, home, datasets):
            scene(played)
    for name, parts in played.pages.items():
        page = folder.resolve() / f"{name}.html"
        page.write_text(page_of(parts))
        photograph(page)


if __name__ == "__main__":
    main()
