"""The demonstration: a scripted person talks with the real wizard; queue, worker, images and training are real."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from bot.messages import metric_rows, percent
from bot.notifier import Notifier
from bot.terminal.children import end_child, start_child
from bot.terminal.commands.runtime import Runtime
from bot.terminal.embedded_valkey import EmbeddedValkey
from bot.terminal.ending import end_in_order
from bot.terminal.pictures import PictureShelf
from bot.terminal.player import READING_SECONDS, Line, Player
from bot.terminal.render import said
from bot.terminal.supervisor import GRACE_SECONDS, worker_command
from bot.terminal.thread import TerminalPoster, follow
from core.datasets.importing import import_dataset
from core.datasets.listing import find_dataset
from core.datasets.samples import write_sample
from core.errors import InvalidInputError, NotFoundError, UnavailableError
from core.models.listing import find_model
from core.tasks.actions import stop_task
from core.tasks.listing import find_task
from core.tasks.states import State
from core.vocabulary import TaskType
from core.wizard.steps.step import count
from core.zoo import catalogue, weights
from core.zoo.spec import ModelSpec

WORKER_SECONDS = 300.0  # importing torch on a cold disk, beside other work; a worker that has ended is noticed at once


@dataclass(frozen=True)
class Sample:
    """What a demonstration trains on, and with which network."""

    dataset: str
    shows: str  # in words
    network: str
    name: str
    annotations: str = ""  # the annotation set to choose, where several fit
    typed: dict[str, dict[str, str]] = field(default_factory=dict)  # hyperparameters by their form, for manual tuning; empty: auto


# Auto's recipe would train a detector for half an hour on two cores; a demonstration shows what four minutes bring, and how one types values.
SAMPLES = {
    TaskType.SINGLE_LABEL: Sample("digits", "5,000 handwritten digits", "tf_efficientnet_lite0", "Read handwritten digits"),
    TaskType.OBJECT_DETECTION: Sample(
        "scattered-digits",
        "1,000 photographs with handwritten digits scattered over them",
        "faster_rcnn-tf_efficientnet_lite0",
        "Find handwritten digits",
        typed={
            "Data loader": {"batch_size": "4", "epochs": "2", "image_size": "160"},
            "Manual assignment": {"learning_rate": "0.02", "learning_rate_schedule": "one-cycle", "weight_decay": "0.0001"},
            "Augmentation": {"horizontal_flip": "off", "resized_crop": "off", "rotation": "off", "colour_jitter": "off"},
        },
    ),
    TaskType.OBJECT_SEGMENTATION: Sample(
        "scattered-digits",
        "1,000 photographs with handwritten digits scattered over them",
        "fpn-tf_efficientnet_lite0",
        "Mark handwritten digits",
        annotations="regions",
        typed={
            "Data loader": {"batch_size": "8", "epochs": "9", "image_size": "96"},
            "Manual assignment": {"learning_rate": "0.07", "learning_rate_schedule": "one-cycle", "weight_decay": "0.0001"},
            "Augmentation": {"horizontal_flip": "off", "resized_crop": "off", "rotation": "off", "colour_jitter": "off"},
        },
    ),
}


class Demo:
    """One demonstration in the home of `runtime`; what it trains stays there."""

    def __init__(self, runtime: Runtime, console: Console, say: Callable[[str], None], task_type: TaskType, *, fast: bool = False) -> None:
        if task_type not in SAMPLES:
            known = ", ".join(SAMPLES)
            raise InvalidInputError(f"There is no demonstration of {task_type} in this version.", f"There is one of: {known}.")
        self.runtime = runtime
        self.console = console
        self.say = say
        self.task_type = task_type
        self.sample = SAMPLES[task_type]
        self.seconds = 0.0 if fast else READING_SECONDS
        self.pictures = PictureShelf(console, runtime.settings.home / "pictures", runtime.conversation.picture)
        self.poster = TerminalPoster(console, self.pictures, runtime.actor.person)

    def run(self) -> None:
        """Play it.

        Raises:
            UnavailableError: when something it needs is missing, or the training failed.
        """
        spec = catalogue.find_spec(self.sample.network, settings=self.runtime.settings)
        if spec.pretraining == catalogue.NONE:
            raise weights.missing(catalogue.of_network(self.sample.network)[0], self.runtime.settings)
        self.say(f"Everything of this demonstration stays in {self.runtime.settings.home}.")
        end_in_order()  # queue and worker
        with self._engine_room():
            self._import()
            task_id = self._converse(spec)
            try:
                self._follow(task_id)
            except (KeyboardInterrupt, SystemExit):  # Ctrl-C, or SIGTERM
                with self.runtime.database.write() as session:
                    stop_task(session, self.runtime.actor, find_task(session, self.runtime.workspace, task_id), "discard")
                self.say("Stopped; nothing was kept.")
                raise
        self._conclude(task_id)

    @contextmanager
    def _engine_room(self) -> Iterator[None]:
        """The queue's server and a training worker, unless they run already."""
        settings = self.runtime.settings
        valkey = None if settings.redis_url.get_secret_value() else EmbeddedValkey(settings)
        worker = None
        try:
            if valkey is not None:
                valkey.start()
            if self.runtime.training_workers() == 0:
                log = settings.home / "logs" / "demo-worker.log"
                log.parent.mkdir(parents=True, exist_ok=True)
                with log.open("ab") as file:
                    worker = start_child(worker_command("--kind", "gpu"), environment=dict(os.environ), output=file)
                self.say("Starting the queue and a training worker …")
                deadline = time.monotonic() + WORKER_SECONDS
                while self.runtime.training_workers() == 0:
                    if worker.poll() is not None or time.monotonic() > deadline:
                        raise UnavailableError(
                            "The training worker did not start.", f"{log} says why; `stationmaster doctor` checks the rest."
                        )
                    time.sleep(0.2)
            yield
        finally:
            if worker is not None:
                end_child(worker, GRACE_SECONDS)
            if valkey is not None:
                valkey.stop()

    def _import(self) -> None:
        """The sample as a dataset, through the ordinary import; a second demonstration finds it there."""
        runtime, name = self.runtime, self.sample.dataset
        try:
            with runtime.database.read() as session:
                dataset = find_dataset(session, runtime.workspace, name)
        except NotFoundError:
            self.say(f"Importing {self.sample.shows} as the dataset “{name}” …")
            with tempfile.TemporaryDirectory(prefix="stationmaster-") as folder:
                source = write_sample(name, Path(folder) / name)
                dataset = import_dataset(
                    runtime.database,
                    runtime.storage,
                    runtime.settings,
                    workspace=runtime.workspace,
                    person=runtime.actor.person,
                    name=name,
                    source=str(source),
                )
        self.say(f"Dataset “{dataset.name}”: {count(dataset.image_count, 'image')}.")

    def _converse(self, spec: ModelSpec) -> str:
        """From /train to Start, as a person would. Returns the task's id."""
        runtime = self.runtime
        player = Player(runtime.conversation, runtime.actor, self.console, self.pictures, self.seconds)
        self.console.print()
        self.console.print(said("/train"))
        first = runtime.conversation.begin(runtime.actor, self.poster.place)
        sample = self.sample
        last = player.play(
            first,
            [
                Line("Next"),
                Line("Task type", self.task_type.title),
                Line("Next"),
                Line("Dataset", sample.dataset),
                *([Line("Annotation set", sample.annotations)] if sample.annotations else []),
                Line("Next"),
                Line("How to choose", "Manual select"),
                Line("Family", spec.family),
                Line("Variation", spec.network),
                Line("Pre-training", spec.pretraining),
                Line("Next"),
                *([Line("Tuning", "Manual")] if sample.typed else []),
                *(Line(form, values=values) for form, values in sample.typed.items()),
                Line("Next"),
                Line("Edit names", values={"name": sample.name}),
                Line("Next"),
                Line("Start"),
            ],
        )
        return last.task_id

    def _follow(self, task_id: str) -> None:
        """The task's thread until it has ended."""
        runtime = self.runtime
        notifier = Notifier(runtime.database, runtime.storage, (self.poster,), runtime.training_workers)
        follow(notifier, self.poster, lambda: not self._ended(task_id))
        notifier.tick()  # what was written between the last look and the end
        self.poster.settle()

    def _ended(self, task_id: str) -> bool:
        with self.runtime.database.read() as session:
            return State(find_task(session, self.runtime.workspace, task_id).state).ended

    def _conclude(self, task_id: str) -> None:
        """The last lines: what the validation images say, and the model's place."""
        runtime = self.runtime
        with runtime.database.read() as session:
            task = find_task(session, runtime.workspace, task_id)
            if task.state != State.FINISHED or task.model_id is None:
                raise UnavailableError(f"The training ended as {task.state}. {task.error}".strip(), task.error_remedy)
            model = find_model(session, runtime.workspace, task.model_id)
        local = runtime.storage.local_path(model.key)
        self.console.print()
        if "accuracy" in task.metrics:
            self.console.print(f"Validation accuracy {percent(task.metrics['accuracy'])}", style="bold green", soft_wrap=True)
            self.console.print(f"Majority-class baseline {percent(task.metrics['baseline_accuracy'])}", soft_wrap=True)
        else:
            for title, value in metric_rows(task.metrics)[:2]:
                self.console.print(f"Validation {title} {value}", style="bold green", soft_wrap=True)
        self.console.print(f"Model {local if local is not None else model.key}", soft_wrap=True, markup=False)
