"""What a training of the sample data reaches, and in which time, as the demonstration of its task type trains it. One line of JSON; epochs go to standard error.

    python benchmarks/training_accuracy.py --task-type single-label          # digits as the demonstration trains them, in two minutes of two cores
    python benchmarks/training_accuracy.py --task-type single-label --set image_size=64 --set epochs=9 --set batch_size=32 \
        --set learning_rate=0.0014 --set rotation=on --set rotation_degrees=10 --set translation_percent=8   # the goal: 99 % within five
    python benchmarks/training_accuracy.py --task-type object-detection      # digits over photographs: AP 50 of at least 0.6 within four
    python benchmarks/training_accuracy.py --task-type object-segmentation   # the same as regions: mean Dice of at least 0.8 within four
    python benchmarks/training_accuracy.py --task-type object-detection --auto --set epochs=4 --network retinanet-tf_efficientnet_lite0
    python benchmarks/training_accuracy.py --task-type single-label --source photograph-halves --data-type photo --set epochs=8
    python benchmarks/training_accuracy.py --task-type single-label --source FOLDER --data-type photo   # images of your own
    python benchmarks/evidence_parents.py convnext_atto --out taught.safetensors
    python benchmarks/training_accuracy.py --task-type object-detection --auto --set epochs=3 --set image_size=160 --set learning_rate=0.001 \
        --network faster_rcnn-convnext_atto.imagenet-1k --weights taught.safetensors --normalised-as tf_efficientnet_lite0

Recipes are compared by it: `--auto` takes the network family's recipe, `--set` a hyperparameter as people type it, `--plan` a value that no form
shows, `--repeat 2` trains twice and says whether the numbers are the same. The time is the job's own: decoding, training, judging.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from evidence_material import photograph_halves, uneven_handwriting

from bot.terminal.demo import SAMPLES
from core.datasets.importing import import_dataset
from core.datasets.listing import annotation_sets_for
from core.datasets.samples import write_sample
from core.db.migrate import ensure_current
from core.db.session import Database
from core.db.tables import Dataset
from core.events import Progress
from core.settings import Settings
from core.storage import Storage
from core.tasks.hyperparameters import Hyperparameters, TrainingPlan, parse_fields
from core.vocabulary import AnnotationKind, DataType, TaskType
from core.zoo.catalogue import find_spec
from core.zoo.facts import facts_of
from core.zoo.recipes import auto_plan, manual_plan
from worker.engine.device import choose_device
from worker.engine.training import train
from worker.link import Ask, TrainingJob

# Which photograph a patch is from, of halves that were not trained on; digits of which half are rare.
MATERIAL = {"photograph-halves": photograph_halves, "uneven-handwriting": uneven_handwriting}
SHOWN = ("image_size", "batch_size", "epochs", "optimizer", "learning_rate", "learning_rate_schedule", "weight_decay", "seed")


class Link:
    """Writes down the score of each epoch and what was noticed."""

    def __init__(self) -> None:
        self.scores: list[float] = []
        self.notices: list[str] = []
        self.began = time.monotonic()
        self.told_left = 0.0  # seconds, after the second epoch
        self.told_at = 0.0

    def asked(self) -> Ask:
        """Nobody stops a benchmark."""
        return Ask.GO_ON

    def pausing(self) -> bool:
        """Nor does anybody end its worker."""
        return False

    def progress(self, event: Progress) -> None:
        """Not looked at."""

    def epoch_ended(self, number: int, values: dict[str, Any], *, score: float, event: Progress, **_: Any) -> None:
        """Keep its score, and after two epochs the time that is said to be left."""
        self.scores.append(round(score, 4))
        print(f"epoch {number}: {score:.4f} after {time.monotonic() - self.began:.0f} s", file=sys.stderr, flush=True)
        if number == 2:
            self.told_left, self.told_at = event.seconds_left or 0.0, time.monotonic()

    def noticed(self, message: str, remedy: str = "") -> None:
        """Keep it."""
        self.notices.append(message)

    waits = noticed


def main() -> None:
    """Train and print the line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task-type", type=TaskType, default=TaskType.SINGLE_LABEL, choices=list(TaskType))
    parser.add_argument(
        "--source", help=f"what to train on by auto instead of the sample: a folder or an archive, or {', '.join(MATERIAL)}"
    )
    parser.add_argument("--data-type", type=DataType, default=DataType.OTHER, choices=list(DataType), help="what the images show, for auto")
    parser.add_argument("--network", help="instead of the demonstration's")
    parser.add_argument("--weights", type=Path, help="of the network, or of its encoder, in place of those in the catalogue")
    parser.add_argument("--normalised-as", metavar="NETWORK", help="whose mean and standard deviation those weights want")
    parser.add_argument("--auto", action="store_true", help="the family's recipe instead of what the demonstration types")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a hyperparameter")
    parser.add_argument("--plan", action="append", default=[], metavar="NAME=JSON", help="a value of the plan that no form shows")
    parser.add_argument("--repeat", type=int, default=1, help="trainings with the same seed")
    arguments = parser.parse_args()
    if not arguments.source and arguments.task_type not in SAMPLES:
        parser.error(f"there is no sample of {arguments.task_type}: --source names images of your own")
    with tempfile.TemporaryDirectory(prefix="stationmaster-") as home:
        print(json.dumps(measure(arguments, Settings(home=Path(home)))))


def measure(asked: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    """Import the sample, train, and tell."""
    sample = SAMPLES.get(asked.task_type, SAMPLES[TaskType.SINGLE_LABEL])  # with images of one's own only its network counts
    database, storage = Database.of(settings), Storage.of(settings)
    ensure_current(database)
    source = settings.home / "source"
    if asked.source in MATERIAL:
        MATERIAL[asked.source](source)
    elif not asked.source:
        write_sample(sample.dataset, source)
    else:
        source = Path(asked.source)
    made = import_dataset(database, storage, settings, workspace="default", person="benchmark", name="sample", source=str(source))
    spec = find_spec(asked.network or sample.network, settings=settings)
    if asked.weights:
        alike = find_spec(asked.normalised_as or spec.network)
        spec = replace(spec, source=f"file:{asked.weights.resolve()}", sha256="", mean=alike.mean, std=alike.std)
    with database.read() as session:
        dataset = session.get_one(Dataset, made.id)
        fitting = annotation_sets_for(dataset, asked.task_type)
        wanted = "instances" if spec.instances_only else "" if asked.source else sample.annotations
        chosen = next(one for one in fitting if wanted in ("", one.kind, one.name))
        facts = facts_of(session, dataset, chosen)
    by_hand = bool(sample.typed) and not asked.auto and not asked.source
    typed = {name: value for form in sample.typed.values() for name, value in form.items()} if by_hand else {}
    typed |= dict(pair.split("=", 1) for pair in asked.set)
    plan: TrainingPlan
    if by_hand:
        plan = manual_plan(spec, facts, Hyperparameters(**parse_fields(typed)))
    else:
        plan = auto_plan(spec, asked.task_type, facts, typed, data_type=asked.data_type, device=choose_device().kind)
    plan = plan.model_copy(update={name: json.loads(value) for name, value in (pair.split("=", 1) for pair in asked.plan)})
    runs = []
    for number in range(asked.repeat):
        job = TrainingJob(
            task_id=f"t{number}",
            job_id=f"j{number}",
            job_number=1,
            generation=1,
            task_name="benchmark",
            task_type=asked.task_type,
            spec=spec,
            plan=plan,
            dataset_id=dataset.id,
            dataset_name=dataset.name,
            annotation_set_id=chosen.id,
            annotation_kind=AnnotationKind(chosen.kind),
            classes=tuple(str(name) for name in chosen.classes),
        )
        link, wall, cpu = Link(), time.monotonic(), time.process_time()
        result = train(job, database=database, storage=storage, settings=settings, link=link)
        seconds = {"wall_seconds": round(time.monotonic() - wall, 1), "cpu_seconds": round(time.process_time() - cpu, 1)}
        left = {"told": round(link.told_left, 1), "was": round(time.monotonic() - link.told_at, 1)} if len(link.scores) > 2 else None
        told = {"by_epoch": link.scores, **seconds, "left_after_two_epochs": left, "noticed": link.notices}
        runs.append({"score": result.score, "metrics": result.metrics} | told)
    return {
        "benchmark": "training_accuracy",
        "task_type": asked.task_type.value,
        "network": spec.network,
        "tuning": "as the demonstration" if by_hand else "auto",
        "plan": {name: getattr(plan, name) for name in SHOWN},
        **runs[0],
        "same_again": all(run["metrics"] == runs[0]["metrics"] for run in runs) if len(runs) > 1 else None,
        "images": facts.training,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load": [round(value, 1) for value in os.getloadavg()],
    }


if __name__ == "__main__":
    main()
