"""Whether what evidence mode measures with frozen features goes with what full fine-tuning of the same candidates comes to.

    python benchmarks/evidence_ranking.py [--folder FOLDER] [--minutes 4] [--seeds 1] [--candidates 8] [--only handwriting]

On three sample sets (`evidence_material`) eight or ten candidates each: the packaged weights of two networks at two or three input sizes, a network
trained here on each of two other sample sets and added as an operator's weights, and one or two from scratch. Each is fine-tuned whole, by auto's recipe with fewer epochs,
on 40 % of the images, and judged by the other 60 %; and each is measured as `stationmaster zoo evidence` measures. What is done is kept in the folder,
so that a run that ends after `--minutes` is gone on with by the next; the numbers are printed once nothing is left to do.
Prints one line of JSON: for each set Spearman's rank correlation with the fine-tuned scores, of the ranking and of each single judge.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training_material import ROOT, Listener

if TYPE_CHECKING:
    from core.tasks.hyperparameters import TrainingPlan

SIDES = (32, 48, 64)
EPOCHS, SCRATCH_EPOCHS, DONOR_EPOCHS = 10, 20, 6
DONOR_SIDE = 48
VALIDATION_PERCENT = 60
NETWORK = "tf_efficientnet_lite0"
DONORS = ("printed-small", "other-pictures")  # pre-trainings made here
SETS = {"handwriting": "single-label", "photographs": "single-label", "scenes": "multi-label"}

# Network, pre-training, input size in pixels.
Candidate = tuple[str, str, int]
CANDIDATES: list[Candidate] = [
    *((NETWORK, "imagenet-1k", side) for side in SIDES),
    *(("tf_efficientnet_lite1", "imagenet-1k", side) for side in SIDES[:2]),
    *((NETWORK, donor, 48) for donor in DONORS),
    (NETWORK, "none", 48),
    # The last two take as long as all the others: `--candidates 10` has them too.
    ("tf_efficientnet_lite1", "imagenet-1k", SIDES[2]),
    ("tf_efficientnet_lite1", "none", 32),
]
FEWEST = 8


class Place:
    """An installation in a folder, and what has been done there."""

    def __init__(self, folder: Path) -> None:
        os.environ |= {"STATIONMASTER_HOME": str(folder), "STATIONMASTER_LOG_LEVEL": "WARNING", "STATIONMASTER_OFFLINE": "1"}
        from core.db.migrate import upgrade
        from core.db.session import Database
        from core.settings import Settings
        from core.storage import Storage

        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.settings = folder, Settings()
        self.database, self.storage = Database.of(self.settings), Storage.of(self.settings)
        upgrade(self.database)

    def done(self, kind: str) -> dict[str, Any]:
        """What has been done of a kind (`trained`, `measured`), by name."""
        path = self.folder / f"{kind}.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return dict(map(json.loads, lines))

    def keep(self, kind: str, name: str, value: Any) -> None:
        """Keep what has been done."""
        with (self.folder / f"{kind}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps([name, value]) + "\n")
        print(kind, name, value, file=sys.stderr, flush=True)

    def dataset(self, name: str, **size: int) -> Any:
        """A sample set, imported where it is not yet, of its usual size or another."""
        import evidence_material

        from core.datasets.importing import import_dataset
        from core.datasets.listing import find_dataset
        from core.errors import NotFoundError

        with self.database.read() as session:
            try:
                return find_dataset(session, "default", name)
            except NotFoundError:
                pass
        source = self.folder / "sources" / name
        getattr(evidence_material, name.replace("-", "_"))(source, **size)
        return import_dataset(self.database, self.storage, self.settings, workspace="default", person="cli", name=name, source=str(source))

    def job(
        self,
        name: str,
        task_type: str,
        candidate: Candidate,
        *,
        epochs: int | None,
        seed: int,
        validation_percent: int,
        changed: Callable[["TrainingPlan"], "TrainingPlan"] = lambda plan: plan,
    ) -> Any:
        """A fine-tuning by auto's recipe, or by what is `changed` of it; of no number of `epochs` auto's."""
        from core.db.tables import Dataset
        from core.vocabulary import AnnotationKind, TaskType
        from core.zoo.catalogue import find_spec
        from core.zoo.facts import facts_of
        from core.zoo.recipes import auto_plan
        from worker.link import TrainingJob

        network, pretraining, side = candidate
        spec, dataset = find_spec(network, pretraining, self.settings), self.dataset(name)
        task = f"{name}-{seed}-{network}-{pretraining}-{side}"
        self.storage.delete(f"tasks/{task}")  # of a run that was cut off
        with self.database.read() as session:
            annotations = next(
                one for one in session.get_one(Dataset, dataset.id).annotation_sets if AnnotationKind(one.kind) in TaskType(task_type).kinds
            )
            overrides = {"image_size": side, "validation_percent": validation_percent, "early_stop": False}
            overrides |= {"epochs": epochs} if epochs else {}
            plan = auto_plan(spec, TaskType(task_type), facts_of(session, dataset, annotations), overrides, seed)
            return TrainingJob(
                task_id=task,
                job_id=f"{task}-1",
                job_number=1,
                generation=1,
                task_name=task,
                task_type=TaskType(task_type),
                spec=spec,
                plan=changed(plan),
                dataset_id=dataset.id,
                dataset_name=name,
                annotation_set_id=annotations.id,
                annotation_kind=AnnotationKind(annotations.kind),
                classes=tuple(str(one) for one in annotations.classes),
            )

    def train(self, job: Any) -> Any:
        """Train it in this process."""
        from worker.engine.training import train

        return train(job, database=self.database, storage=self.storage, settings=self.settings, link=Listener())


def make_donor(place: Place, donor: str) -> None:
    """Train a network from scratch on a donor's set, and add its weights as an operator would."""
    from core.zoo import catalogue
    from core.zoo.added import AddedWeights
    from worker.networks.adding import add_weights
    from worker.reports.model_files import write_model

    job = place.job(donor, "single-label", (NETWORK, "none", DONOR_SIDE), epochs=DONOR_EPOCHS, seed=0, validation_percent=10)
    result = place.train(job)
    key = f"models/{donor}"
    write_model(job, result, key, database=place.database, storage=place.storage, settings=place.settings)
    file = place.folder / f"{donor}.safetensors"
    file.write_bytes(place.storage.read(f"{key}/model.safetensors"))
    spec = catalogue.find_spec(NETWORK, "none")
    wanted = AddedWeights(NETWORK, donor, "", "", "Apache-2.0", f"the set {donor}", spec.input_size, spec.mean, spec.std)
    add_weights(file, wanted, place.settings)
    place.keep("trained", donor, result.score)


def fine_tune(place: Place, name: str, candidate: Candidate, seed: int) -> None:
    """Train one candidate whole and keep its score on the validation images: accuracy, or mean average precision."""
    epochs = SCRATCH_EPOCHS if candidate[1] == "none" else EPOCHS
    began = time.monotonic()
    job = place.job(name, SETS[name], candidate, epochs=epochs, seed=seed, validation_percent=VALIDATION_PERCENT)
    result = place.train(job)
    place.storage.delete(f"tasks/{job.task_id}")
    place.keep("trained", key_of(name, candidate, seed), [result.score, round(time.monotonic() - began, 1)])


def measure(place: Place, name: str, candidates: list[Candidate]) -> None:
    """Measure the candidates on a sample of the set, as the light worker does."""
    from core.vocabulary import TaskType
    from core.zoo import evidence
    from worker.evidence.measuring import measure as measured_on

    dataset = place.dataset(name)
    chosen = [evidence.Candidate(*candidate) for candidate in candidates]
    result = measured_on(
        dataset.id,
        dataset.annotation_sets[0].id,
        TaskType(SETS[name]),
        chosen,
        database=place.database,
        storage=place.storage,
        settings=place.settings,
    )
    place.keep("measured", measured_key(name, candidates), result)


def worked_off(place: Place, work: Sequence[tuple[str, Callable[[], None]]], minutes: float) -> bool:
    """Do what has not been done yet, beginning nothing after so many minutes; whether nothing is left."""
    began = time.monotonic()
    for key, do in work:
        if key in place.done("trained"):
            continue
        if time.monotonic() - began > minutes * 60:
            print("more is left to do: run it again", file=sys.stderr)
            return False
        do()
    return True


def measured_key(name: str, candidates: list[Candidate]) -> str:
    """The name that a measuring is kept under."""
    return f"{name}/{len(candidates)}"


def key_of(name: str, candidate: Candidate, seed: int) -> str:
    """The name that a fine-tuning is kept under."""
    return "/".join(map(str, (name, seed, *candidate)))


def judged(place: Place, name: str, candidates: list[Candidate], seeds: int) -> dict[str, Any]:
    """How well the measured order goes with the trained one."""
    from scipy.stats import spearmanr

    from core.zoo import evidence

    trained, measured = place.done("trained"), place.done("measured")[measured_key(name, candidates)]
    found = evidence.of_result(measured)
    scores = [
        sum(trained[key_of(name, (one.network, one.pretraining, one.image_size), seed)][0] for seed in range(seeds)) / seeds
        for one in found
    ]
    judges = {
        "ranking": [-float(place) for place in range(len(found))],
        **{judge: [getattr(one, judge) for one in found] for judge in ("linear_probe", "nearest_neighbours", "logme")},
    }
    return {
        "images": measured["images"],
        "measuring_seconds": round(sum(one.seconds for one in found), 1),
        "training_seconds": round(sum(trained[key_of(name, candidate, seed)][1] for candidate in candidates for seed in range(seeds)), 1),
        **{judge: round(float(spearmanr(values, scores).statistic), 3) for judge, values in judges.items()},
        "candidates": [
            [f"{one.network}.{one.pretraining}", one.image_size, round(one.linear_probe, 3), round(score, 3)]
            for one, score in zip(found, scores, strict=True)
        ],
    }


def main() -> None:
    """Go on with what is left, and print the correlations once nothing is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/stationmaster-evidence"))
    parser.add_argument("--minutes", type=float, default=60, help="begin nothing after so many minutes")
    parser.add_argument("--seeds", type=int, default=1, help="fine-tunings of each candidate, with splits of their own; their mean counts")
    parser.add_argument("--candidates", type=int, default=FEWEST, choices=range(FEWEST, len(CANDIDATES) + 1))
    parser.add_argument("--only", choices=tuple(SETS))
    asked = parser.parse_args()
    sys.path.insert(0, str(ROOT / "benchmarks"))
    place, candidates = Place(asked.folder), CANDIDATES[: asked.candidates]
    names = [asked.only] if asked.only else list(SETS)
    work = [(key, lambda donor=key: make_donor(place, donor)) for key in DONORS]
    work += [
        (key_of(name, candidate, seed), lambda name=name, candidate=candidate, seed=seed: fine_tune(place, name, candidate, seed))
        for seed in range(asked.seeds)
        for name in names
        for candidate in candidates
    ]
    if not worked_off(place, work, asked.minutes):
        return
    for name in names:
        if measured_key(name, candidates) not in place.done("measured"):
            measure(place, name, candidates)
    print(json.dumps({"benchmark": "evidence_ranking", **{name: judged(place, name, candidates, asked.seeds) for name in names}}))


if __name__ == "__main__":
    main()
