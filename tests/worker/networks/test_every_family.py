"""One network of each family of the zoo goes all the way: trained, judged, asked, exported as both formats, and retrained for other classes."""

import math
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load as load_safetensors

from core.models.exporting import ExportFormat
from core.vocabulary import TaskType
from core.zoo import catalogue
from core.zoo.recipes import PLACES
from core.zoo.spec import ModelSpec
from worker.engine import training
from worker.engine.device import Device
from worker.engine.recomputing import computes_again
from worker.link import Ask, TrainingJob
from worker.reports.export import export_model
from worker.reports.inference import predict
from worker.reports.model_files import write_model

SCRATCH = [spec for spec in catalogue.entries() if spec.pretraining == catalogue.NONE]
pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]


@pytest.fixture(autouse=True)
def _leave_nothing(tmp_path: Path) -> Iterator[None]:
    """Models and checkpoints of all families together would fill a disk."""
    yield
    shutil.rmtree(tmp_path)


def smallest_of_each_family() -> list[ModelSpec]:
    """The one with the least work by kind of network and family, and by kind of head and family of the backbone under it."""
    families = {spec.network: spec.family for spec in SCRATCH}
    found: dict[tuple[str, ...], ModelSpec] = {}
    for spec in sorted(SCRATCH, key=lambda spec: spec.gmacs):
        found.setdefault((spec.recipe, spec.library, spec.family, *spec.task_types), spec)
        backbone = spec.network.partition("-")[2]
        if spec.library in ("torchvision over timm", "segmentation-models-pytorch"):
            found.setdefault((spec.library, families[backbone]), spec)
    return list(dict.fromkeys(found.values()))


def side_of(spec: ModelSpec) -> int:
    """A small side that the network takes."""
    least = 128 if spec.recipe in PLACES else 96
    return spec.input_size if spec.fixed_size else next(side for side in range(least, 2000) if spec.accepts_size(side))


def plan_of(spec: ModelSpec) -> dict[str, Any]:
    plan = {"image_size": side_of(spec), "batch_size": 4, "epochs": 2, "learning_rate": 1e-4, "gradient_clip": 1.0, "ema_decay": 0.5}
    if spec.recipe == "detection-transformer":
        # They answer from the best of many places. As long as all are equally good, rounding decides, and no export can be compared.
        return plan | {"epochs": 6, "learning_rate": 1e-3}
    return plan


def images_of(bench: Any, spec: ModelSpec, classes: int) -> tuple[Any, str]:
    """A dataset for it, and which of its annotations are meant."""
    name = f"of {classes}"
    if spec.recipe not in PLACES:
        return bench.stripes(per_class=8, side=64, classes=classes, name=name), ""
    if TaskType.OBJECT_DETECTION in spec.task_types:
        return bench.squares(images=12, classes=classes, name=name, size=(96, 96)), "boxes"
    return bench.squares(images=12, classes=classes, name=name, size=(96, 96)), "instances" if spec.instances_only else "regions"


def trained(bench: Any, job: TrainingJob, key: str, recording_link: Any) -> dict[str, torch.Tensor]:
    """The weights of the model that came of it, interrupted once; its files lie under `key`."""
    paused, _ = bench.train(job, recording_link(lambda link: Ask.PAUSE if link.events else Ask.GO_ON))  # after the first step
    assert paused.asked is Ask.PAUSE
    result, link = bench.train(replace(job, generation=job.generation + 1))
    assert [number for number, _ in link.epochs] == list(range(1, job.plan.epochs + 1))
    assert all(math.isfinite(values["train_loss"]) and math.isfinite(values["val_loss"]) for _, values in link.epochs)
    write_model(job, result, key, database=bench.database, storage=bench.storage, settings=bench.settings)
    return load_safetensors(bench.storage.read(f"{key}/model.safetensors"))


@pytest.mark.parametrize("spec", smallest_of_each_family(), ids=lambda spec: spec.network)
def test_from_the_first_training_to_the_second(bench: Any, recording_link: Any, spec: ModelSpec) -> None:
    dataset, kind = images_of(bench, spec, 2)
    first = trained(bench, bench.job(dataset, spec=spec, kind=kind, **plan_of(spec)), "models/m1", recording_link)

    files = sorted((bench.folder / "of 2").rglob("*.png"))[:2]
    answer = predict("models/m1", files[0].read_bytes(), storage=bench.storage, settings=bench.settings)
    assert (answer["width"], answer["height"]) == ((96, 96) if spec.recipe in PLACES else (64, 64))
    if spec.recipe not in PLACES:
        assert sum(label["confidence"] for label in answer["labels"]) == pytest.approx(1, abs=1e-3)
        assert "picture_key" in answer, "no class activation map"

    for format_ in (ExportFormat.ONNX, ExportFormat.TORCHSCRIPT):
        export = export_model(
            "models/m1", "m", format_, storage=bench.storage, settings=bench.settings, examples=[path.read_bytes() for path in files]
        )
        assert export["largest_difference"] < 1e-3  # beyond 1e-4 it is what rounding makes of the original

    other, kind = images_of(bench, spec, 3)
    again = replace(bench.job(other, spec=spec, kind=kind, task="task2", **plan_of(spec)), parent_model_key="models/m1")
    second = trained(bench, again, "models/m2", recording_link)
    assert first.keys() == second.keys()
    weights = [name for name in first if first[name].is_floating_point() and first[name].shape == second[name].shape]
    changed = [name for name in weights if not torch.equal(first[name], second[name])]
    assert len(changed) > 0.7 * len(weights)
    large = [name for name in weights if first[name].ndim > 1 and first[name].any()]  # it learnt on, and did not begin anew
    assert np.median([float((second[name] - first[name]).norm() / first[name].norm()) for name in large]) < 0.5


@pytest.mark.parametrize("spec", smallest_of_each_family(), ids=lambda spec: spec.network)
def test_as_gpus_compute(bench: Any, spec: ModelSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    """In bfloat16, and computing activations again where memory asks for it."""
    begin = training.begin_network

    def recomputing(*args: Any, **named: Any) -> Any:
        network = begin(*args, **named)
        assert computes_again(network) or spec.recipe == "plain-convolutional"
        return network

    monkeypatch.setattr(training, "choose_device", lambda processes: Device(torch.device("cpu"), "CPU", bf16=True))
    monkeypatch.setattr(training, "begin_network", recomputing)
    dataset, kind = images_of(bench, spec, 2)
    _, link = bench.train(bench.job(dataset, spec=spec, kind=kind, **plan_of(spec) | {"epochs": 1}))
    assert all(math.isfinite(values["train_loss"]) and math.isfinite(values["val_loss"]) for _, values in link.epochs)
    assert len(link.epochs) == 1
