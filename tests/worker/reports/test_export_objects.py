"""Exports of detectors give the original's boxes and masks, in other programs and without this project."""

import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from finished_models import stripes_model
from small_networks import ANCHORLESS_BOXES, BOXES, INSTANCES
from torch import Tensor, nn

from core.errors import UnavailableError
from core.models.exporting import ExportFormat, how_it_agrees
from core.tasks.light import submit_light_job
from core.vocabulary import TaskType
from core.zoo.catalogue import find_spec
from worker import light
from worker.engine.data import decode
from worker.reports.export import _compared, export_model
from worker.reports.export_objects import decided_by_rounding, in_double_precision, largest_difference
from worker.reports.inference import predict
from worker.reports.model_files import write_model
from worker.workplace import Workplace

SPECS = {"boxes": BOXES, "instances": INSTANCES, "fcos": ANCHORLESS_BOXES}
SPECS |= {name: find_spec(name, "none") for name in ("dfine-nano", "rtdetr_v2_r18vd", "rf-detr-nano")}
SIDES = {"dfine-nano": 256, "rtdetr_v2_r18vd": 128, "rf-detr-nano": 288}  # the least that they take; else 64 px
PLAN: dict[str, Any] = {"batch_size": 4, "epochs": 4, "learning_rate": 2e-3, "gradient_clip": 5.0}


def make_model(bench: Any, network: str) -> list[Path]:
    """A detector of squares as the model models/m1; its images."""
    dataset = bench.squares(images=12)
    job = bench.job(
        dataset, kind="instances" if network == "instances" else "boxes", spec=SPECS[network], image_size=SIDES.get(network, 64), **PLAN
    )
    result, _ = bench.train(job)
    write_model(job, result, "models/m1", database=bench.database, storage=bench.storage, settings=bench.settings)
    return sorted((bench.folder / "squares" / "images").glob("*.png"))[:3]


def quiet_session(data: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("network", ["boxes", "instances", *(pytest.param(name, marks=pytest.mark.long) for name in ("fcos", *SIDES))])
def test_both_formats_find_what_the_original_finds(bench: Any, network: str) -> None:
    files = make_model(bench, network)
    examples = [path.read_bytes() for path in files]
    images = [decode(example, SIDES.get(network, 64))[None].copy() for example in examples]
    answers = []
    for format_ in (ExportFormat.ONNX, ExportFormat.TORCHSCRIPT):
        result = export_model("models/m1", "m", format_, storage=bench.storage, settings=bench.settings, examples=examples)
        assert result["largest_difference"] < 1e-4 and result["objects_compared"] > 0
        data = bench.storage.read(result["key"])
        if format_ is ExportFormat.ONNX:
            session = quiet_session(data)
            answers.append([session.run(None, {"images": image}) for image in images])
        else:
            script = torch.jit.load(io.BytesIO(data))
            answers.append([[part.numpy() for part in script(torch.from_numpy(image))] for image in images])
    assert len(answers[0][0]) == (4 if network == "instances" else 3)
    # Predicting asks for each class's threshold; of what the exports give those from it on must be the same objects.
    card = json.loads(bench.storage.read("models/m1/model_card.json"))
    for number, example in enumerate(examples):
        ours = predict("models/m1", example, storage=bench.storage, settings=bench.settings)["labels"]
        for found in (answers[0][number], answers[1][number]):
            kept = [index for index, label in enumerate(found[1]) if found[2][index] >= card["thresholds"][label]]
            assert len(kept) == len(ours)
            for index, one in zip(kept, ours, strict=True):
                x, y, width, height = one["box"]
                larger = SIDES.get(network, 64) / 64  # the network's input than the images
                assert np.allclose(found[0][index] / larger, [x, y, x + width, y + height], atol=0.02)
                assert abs(found[2][index] - one["confidence"]) < 1e-4


def test_the_zips_script_finds_the_same_objects_without_this_project(bench: Any, tmp_path: Path) -> None:
    files = make_model(bench, "instances")
    model = stripes_model(name="Squares", task_type="object-segmentation", network=INSTANCES.network, classes=["shade 0", "shade 1"])
    with bench.database.write() as session:
        session.add(model)
        session.flush()
        job = submit_light_job(
            session, workspace="default", person="cli:test", kind="export", payload={"model_id": model.id, "format": "zip"}
        )
    light._run(Workplace(bench.settings, bench.database, bench.storage), job.id, job.generation)
    with bench.database.read() as session:
        done = session.get_one(type(job), job.id)
    assert done.result["objects_compared"] > 0, done.error  # the light worker took images of the dataset
    with zipfile.ZipFile(io.BytesIO(bench.storage.read(done.result["key"]))) as archive:
        archive.extractall(tmp_path / "elsewhere")
    command = [sys.executable, "-I", str(tmp_path / "elsewhere" / "predict.py"), "--masks", str(tmp_path / "masks"), *map(str, files)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert ran.returncode == 0, ran.stderr
    for path, line in zip(files, ran.stdout.splitlines(), strict=True):
        found = json.loads(line)["objects"]
        ours = predict("models/m1", path.read_bytes(), storage=bench.storage, settings=bench.settings)["labels"]
        assert [one["label"] for one in found] == [one["label"] for one in ours]
        for one, own in zip(found, ours, strict=True):
            assert np.allclose(one["box"], own["box"], atol=0.05) and abs(one["confidence"] - own["confidence"]) < 1e-4
            assert "mask" in one and Path(one["mask"]).is_file()
    nothing = subprocess.run(
        [*command[:3], "--threshold", "1", str(files[0])], capture_output=True, text=True, cwd=tmp_path, env=environment, check=True
    )
    assert json.loads(nothing.stdout)["objects"] == []


def objects(*rows: tuple[float, int, float]) -> list[np.ndarray]:
    """Boxes of 10 × 10 px at x, with label and score."""
    return [
        np.array([[x, 0, x + 10, 10] for x, _, _ in rows], np.float32).reshape(-1, 4),
        np.array([label for _, label, _ in rows], np.int64),
        np.array([score for _, _, score in rows], np.float32),
    ]


class Ranking(nn.Module):
    """Gives the brighter of two pixels: where they are alike, whatever is added last decides."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(1))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        first, second = (images[0, 0, :2].float() - self.mean).tolist()
        x = 0.0 if first >= abs(second) else 50.0
        return torch.tensor([[x, 0, x + 10, 10]]), torch.tensor([0]), torch.tensor([0.9])


def test_a_picture_on_which_rounding_decides_is_told_from_others() -> None:
    ranking = Ranking()
    for pixels, decided in (([10, 10], False), ([10, 3], False), ([3, 10], False), ([0, 0], True)):
        images = torch.tensor([[pixels]])
        expected = [part.numpy() for part in ranking(images)]
        assert decided_by_rounding(ranking, images, expected, 100, 1e-4) is decided
        assert not ranking.mean.any()


class Tie(Ranking):
    """Two places that single precision cannot tell apart, whatever the picture; in double the second is better by the seventeenth digit."""

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        parts = torch.tensor([0.1, 0.2, 0.3], dtype=self.mean.dtype)
        x = 50.0 if parts[0] + parts[1] > parts[2] else 0.0
        return torch.tensor([[x, 0, x + 10, 10]]), torch.tensor([0]), torch.tensor([0.9])


def test_a_tie_that_double_precision_would_break_is_decided_by_rounding() -> None:
    """A network that has learnt nothing finds many places equally good in all pictures: no brightness shows that."""
    tie, images = Tie(), torch.tensor([[[10, 3]]])
    expected = [part.numpy() for part in tie(images)]
    assert expected[0][0, 0] == 0
    assert decided_by_rounding(tie, images, expected, 100, 1e-4)
    assert tie.mean.dtype == torch.float32
    model: Any = SimpleNamespace(task_type=TaskType.OBJECT_DETECTION, gives_instances=False, card={"preprocessing": {"size": [100, 100]}})
    with pytest.raises(UnavailableError, match="rounding alone decides"):
        _compared(tie, lambda _: objects((50, 0, 0.9)), model, "ONNX", b"", [np.array([[[10, 3]]], np.uint8)])


def test_what_was_left_out_of_a_comparison_is_told() -> None:
    """One picture of three on which rounding decides, where the export decides otherwise."""
    ranking = Ranking()
    pictures = [np.array([[pixels]], np.uint8) for pixels in ([10, 10], [0, 0], [3, 10])]

    def exported(images: np.ndarray) -> list[np.ndarray]:
        if not images.any():
            return objects((50, 0, 0.9))
        return [part.numpy() for part in ranking(torch.from_numpy(images))]

    model: Any = SimpleNamespace(task_type=TaskType.OBJECT_DETECTION, gives_instances=False, card={"preprocessing": {"size": [100, 100]}})
    checked = _compared(ranking, exported, model, "ONNX", b"", pictures)
    assert (checked.objects, checked.undecided) == (2, 1)
    told = {"largest_difference": 2e-6}
    assert how_it_agrees(told | {"pictures_left_out": 0}) == "Its numbers differ from the original's by at most 2e-06."
    assert "1 picture was left out" in how_it_agrees(told | {"pictures_left_out": 1})
    assert "3 pictures were left out" in how_it_agrees(told | {"pictures_left_out": 3})


def test_answers_are_compared_object_by_object() -> None:
    both = objects((0, 0, 0.9), (20, 1, 0.5))
    assert largest_difference(both, both, 100, 1e-4) == 0
    assert largest_difference(both, objects((20, 1, 0.5), (0, 0, 0.9)), 100, 1e-4) == 0  # the order of equals may differ
    assert largest_difference(both, objects((0, 0, 0.9), (20.005, 1, 0.5)), 100, 1e-4) == pytest.approx(5e-5, rel=0.1)
    assert largest_difference(both, objects((0, 0, 0.9), (21, 1, 0.5)), 100, 1e-4) > 1e-4  # another place
    assert largest_difference(both, objects((0, 0, 0.9), (20, 0, 0.5)), 100, 1e-4) > 1e-4  # another class
    assert largest_difference(both, objects((20, 1, 0.5)), 100, 1e-4) > 1e-4  # one is lacking
    assert largest_difference(objects((20, 1, 0.5)), both, 100, 1e-4) > 1e-4  # one is invented
    assert largest_difference(objects(), objects(), 100, 1e-4) == 0


def test_a_lack_of_memory_is_not_taken_for_a_network_that_cannot_compute_in_double_precision() -> None:
    class Failing(nn.Module):
        def __init__(self, error: Exception) -> None:
            super().__init__()
            self.error = error

        def forward(self, images: Tensor) -> Tensor:
            raise self.error

    images = torch.zeros(1, 8, 8, 3, dtype=torch.uint8)
    assert in_double_precision(Failing(RuntimeError("expected scalar type Float but found Double")), images) is None
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        in_double_precision(Failing(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes.")), images)
