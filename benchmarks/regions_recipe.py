"""How well and how fast regions are learnt on the digits scattered over photographs. One line of JSON.

    python benchmarks/regions_recipe.py --network unet-tf_efficientnet_lite0 --set image_size=128 --set batch_size=4 --set epochs=12

Without `--set` the network's recipe is used as auto tuning would. Dice is the mean over the digits, at the images' own size.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from core.datasets.importing import import_dataset
from core.datasets.samples import write_sample
from core.db.migrate import ensure_current
from core.db.session import Database
from core.db.tables import Dataset
from core.events import Progress
from core.settings import Settings
from core.storage import Storage
from core.vocabulary import AnnotationKind, TaskType
from core.zoo.catalogue import find_spec
from core.zoo.facts import facts_of
from core.zoo.recipes import auto_plan
from worker.engine.training import train
from worker.link import Ask, TrainingJob


class Link:
    """Writes down the Dice of each epoch."""

    def __init__(self) -> None:
        self.dice: list[float] = []

    def asked(self) -> Ask:
        """Nobody stops a benchmark."""
        return Ask.GO_ON

    def progress(self, event: Progress) -> None:
        """Not looked at."""

    def epoch_ended(self, number: int, values: dict[str, Any], **_: Any) -> None:
        """Keep its Dice."""
        self.dice.append(round(values["dice"], 4))

    def noticed(self, message: str, remedy: str = "") -> None:
        """Not looked at."""


def main() -> None:
    """Train once and print the line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", default="unet-tf_efficientnet_lite0")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a hyperparameter instead of the recipe's")
    parser.add_argument("--plan", action="append", default=[], metavar="NAME=JSON", help="a value of the plan that no form shows")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="stationmaster-") as home:
        settings = Settings(home=Path(home))
        database, storage = Database.of(settings), Storage.of(settings)
        ensure_current(database)
        source = write_sample("scattered-digits", Path(home) / "source")
        made = import_dataset(database, storage, settings, workspace="default", person="benchmark", name="digits", source=str(source))
        spec = find_spec(arguments.network, settings=settings)
        with database.read() as session:
            dataset = session.get_one(Dataset, made.id)
            chosen = next(one for one in dataset.annotation_sets if one.kind == AnnotationKind.REGIONS)
            facts = facts_of(session, dataset, chosen)
            classes = tuple(str(name) for name in chosen.classes)
        plan = auto_plan(spec, TaskType.OBJECT_SEGMENTATION, facts, dict(pair.split("=", 1) for pair in arguments.set))
        plan = plan.model_copy(update={name: json.loads(value) for name, value in (pair.split("=", 1) for pair in arguments.plan)})
        job = TrainingJob(
            task_id="t1",
            job_id="j1",
            job_number=1,
            generation=1,
            task_name="benchmark",
            task_type=TaskType.OBJECT_SEGMENTATION,
            spec=spec,
            plan=plan,
            dataset_id=dataset.id,
            dataset_name=dataset.name,
            annotation_set_id=chosen.id,
            annotation_kind=AnnotationKind.REGIONS,
            classes=classes,
        )
        link, wall, cpu = Link(), time.monotonic(), time.process_time()
        result = train(job, database=database, storage=storage, settings=settings, link=link)
        figures = {
            "benchmark": "regions_recipe",
            "network": spec.network,
            "plan": {name: getattr(plan, name) for name in ("image_size", "batch_size", "epochs", "optimizer", "learning_rate")},
            "dice": result.score,
            "dice_by_epoch": link.dice,
            "wall_seconds": round(time.monotonic() - wall, 1),
            "cpu_seconds": round(time.process_time() - cpu, 1),
            "load": [round(value, 1) for value in os.getloadavg()],
        }
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
