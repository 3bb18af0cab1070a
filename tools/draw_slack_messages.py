#!/usr/bin/env python3
"""Draws what people see in Slack: real conversations with a local Slack server, from /train to the result, as pictures.

    python tools/draw_slack_messages.py docs/slack

Every message is what the bot sent (Block Kit), drawn with Slack's layout; the pictures in them are those that were uploaded. Writes a picture for
each part of the conversations, or its page of HTML where no Chromium is installed.
"""

import io
import os
import re
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
from slack_server import APP_TOKEN, BOT_TOKEN, BOT_USER, FakeSlack

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
DIGITS_PER_CLASS = 100


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
    parts: dict[str, list[str]] = field(default_factory=dict)  # by name: what is drawn, one below the other

    def __post_init__(self) -> None:
        self.notifier = Notifier(self.database, self.storage, (self.face.poster,), lambda: 1)

    def part(self, name: str, *drawn: str) -> None:
        """Something drawn, in a picture of its own or below what is there under that name."""
        self.parts.setdefault(name, []).extend(drawn)

    def screen(self, name: str) -> None:
        """The wizard's message as it stands."""
        self.part(name, self.drawer.message(self.person.screen()))

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
            names = {user: data["profile"]["real_name"] for user, data in slack.users.items()} | {BOT_USER: "Stationmaster"}
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
    person, message = stage.person, stage.drawer.message
    person.command("/train")
    stage.part("task-type", message(stage.slack.messages(person.channel)[-1], thread=False))
    person.press("Next")
    person.choose("choose:task-type", "Single-label")
    stage.screen("task-type")
    person.press("Next")
    person.choose("choose:dataset", "digits")
    stage.screen("dataset")
    person.press("Next")
    person.choose("choose:data-type", "Documents")
    stage.screen("model")
    person.choose("choose:selection", "Manual")
    person.choose("choose:family", "MobileNet")
    person.choose("choose:network", "mobilenetv3_small_050")
    person.choose("choose:pretraining", "None")
    person.press("Next")
    person.choose("choose:tuning", "Manual")
    person.press("Data loader")
    answer = person.fill(epochs="500", batch_size="32", image_size="32")
    wrong = (answer.payload or {}).get("errors")
    stage.part("dialog", stage.drawer.modal(stage.person.opened(), wrong, epochs="500", image_size="32"))
    person.fill(epochs="12", batch_size="32", image_size="32")
    person.press("Manual assignment")
    person.fill(learning_rate="0.05", momentum="0.9")
    person.press("Augmentation")
    person.fill(horizontal_flip="off", rotation="off", resized_crop="off", colour_jitter="off")
    person.press("Next")
    person.press("Edit names")
    person.fill(name="Handwritten digits", description="Scans of the spring forms")
    person.press("Next")
    stage.screen("review")
    person.press("Start")


def training(stage: Stage) -> None:
    """The thread of the training, down to the result, an image tried, and a failure."""
    person, message = stage.person, stage.drawer.message
    waiting = stage.until(lambda: next((item for item in stage.thread() if "Hyperparameters" in str(item["blocks"])), None))
    stage.part("waiting", message(dict(waiting)))
    # Which epochs are told depends on how long one takes.
    told = re.compile(r"epoch (?:[3-9]|1\d)\b")
    running = stage.until(lambda: next((item for item in stage.thread() if told.search(str(item)) and "slack_file" in str(item)), None))
    stage.part("progress", message(dict(running)))
    person.press("Details", running)
    stage.part("details", stage.drawer.modal(person.opened()))
    result = stage.until(lambda: next((item for item in stage.thread() if "is trained" in str(item["blocks"])), None))
    stage.part("result", message(result))
    drawn = io.BytesIO()
    Image.fromarray(load_digits()[0][4_321]).save(drawn, "PNG")
    sent = person.say("and this one?", thread=person.thread(), files=[stage.slack.add_file("form 17.png", drawn.getvalue(), "image/png")])
    stage.part("test", message(sent), message(stage.thread()[-1]))
    stage.part("announcement", message(stage.slack.messages(person.channel)[-1], thread=False))
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
    why = "Not even one image at a time fits into the GPU's memory.", "Choose a smaller network, or a smaller input size."
    with stage.database.write() as session:
        fail_job(session, job.id, job.generation, *why)
    failed = stage.until(lambda: next((item for item in stage.thread() if "ended with an error" in str(item["blocks"])), None))
    stage.part("failure", message(failed))


def datasets(stage: Stage) -> None:
    """An archive in chat, what was found in it, and what can be done with datasets."""
    person, message = stage.person, stage.drawer.message
    person.command("/datasets")
    stage.part("datasets", message(newest_answer(stage), thread=False, only="you"))
    person.press("Import a dataset", newest_answer(stage))
    stage.part("import", stage.drawer.modal(person.opened()))
    file = stage.slack.add_file("spring forms.zip", digits(damaged=True, per_class=20), "application/zip")
    sent = person.mention("", files=[file])
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
    stage.part("findings", message(sent, thread=False), message(thread()[0]), message(found))
    person.press("Keep the good part", found)
    stage.part("findings", message(thread()[-1]))
    stage.part("importing", message(running))
    person.command("/datasets", "digits")
    person.press("digits", newest_answer(stage))
    details = newest_answer(stage)
    stage.part("browse", message(details, thread=False, only="you"))
    person.press("Statistics", details)
    stage.part("statistics", message(newest_answer(stage), thread=False, only="you"))
    person.press("Delete", details)
    answer = person.fill(confirmation="delete")
    stage.part("delete", stage.drawer.modal(person.opened(), (answer.payload or {}).get("errors"), confirmation="delete"))


def home(stage: Stage) -> None:
    """The App Home, and the help."""
    stage.part("home", stage.drawer.home(stage.person.open_home()))
    stage.person.command("/train-help")
    stage.part("help", stage.drawer.message(newest_answer(stage), thread=False, only="you"))


def answers(stage: Stage) -> list[dict[str, Any]]:
    """What only the person has been told, the newest last."""
    given = [item for used in stage.slack.responses.values() for item in used] + stage.slack.ephemerals
    return sorted(given, key=lambda item: (float(item["ts"]), item["ts"].partition(".")[2]))


def newest_answer(stage: Stage) -> dict[str, Any]:
    """The last of these."""
    return answers(stage)[-1]


def photograph(chromium: str, page: Path) -> None:
    """A picture in place of a page, as tall as it is, by Chromium."""
    picture = page.with_suffix(".png")
    command = [chromium, "--headless", "--no-sandbox", "--hide-scrollbars", f"--screenshot={picture}", "--window-size=760,3000", str(page)]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    with Image.open(picture) as drawn:
        ink = drawn.convert("L").point(lambda value: 255 if value < 250 else 0).getbbox() or (0, 0, drawn.width, drawn.height)
        cut = drawn.convert("RGB").crop((0, 0, min(drawn.width, ink[2] + 12), min(drawn.height, ink[3] + 12)))
    cut.quantize(128, dither=Image.Dither.NONE).save(picture, optimize=True)
    page.unlink()


def main() -> None:
    """Write the pictures."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = Path(sys.argv[1]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with stage() as played:
        for scene in (wizard, training, home, datasets):
            scene(played)
    for name, parts in played.parts.items():
        (folder / f"{name}.html").write_text(page_of(parts))
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    for page in folder.glob("*.html") if chromium else ():
        photograph(str(chromium), page)


if __name__ == "__main__":
    main()
