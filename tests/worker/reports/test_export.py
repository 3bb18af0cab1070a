"""Exports give the original's numbers, in other programs and without this project."""

import io
import json
import os
import subprocess
import sys
import threading
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from deep_png import deep_png
from deep_tiff import DEFLATE, deep_tiff
from finished_models import stripes_model
from PIL import Image
from torch import Tensor, nn

from bot.desk.desk import Desk
from core.access import Actor, Place
from core.datasets.images import flattened, read_image
from core.errors import UnavailableError
from core.models.exporting import ExportFormat
from core.settings import Settings
from core.vocabulary import TaskType
from worker.engine.data import decode
from worker.objectives.regions import probabilities_of
from worker.reports import elsewhere, export, found_regions
from worker.reports.export import export_model
from worker.reports.found_regions import find_regions
from worker.reports.inference import load_model, predict
from worker.reports.model_files import write_model


def make_model(bench: Any, dataset: Any, **plan: Any) -> None:
    job = bench.job(dataset, **plan)
    result, _ = bench.train(job)
    write_model(job, result, "models/m1", database=bench.database, storage=bench.storage, settings=bench.settings)


def exported(bench: Any, format_: ExportFormat) -> bytes:
    result = export_model("models/m1", "Left & right", format_, storage=bench.storage, settings=bench.settings)
    assert result["name"].startswith("Left") and result["name"].endswith(format_.suffix) and "&" not in result["name"]
    assert result["largest_difference"] < 1e-4
    data: bytes = bench.storage.read(result["key"])
    assert len(data) == result["bytes"]
    return data


def test_onnx_takes_pictures_as_they_are_decoded_and_gives_the_originals_probabilities(bench: Any) -> None:
    make_model(bench, bench.stripes(per_class=8), epochs=1)
    data = exported(bench, ExportFormat.ONNX)
    card = json.loads({item.key: item.value for item in onnx.load_from_string(data).metadata_props}["model_card"])
    assert card["classes"] == ["direction 0", "direction 1"] and card["export"]["input"]["shape"] == ["batch", 32, 32, 3]
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    files = [path.read_bytes() for path in sorted((bench.folder / "stripes").rglob("*.png"))[:5]]
    found = session.run(None, {"images": np.stack([decode(file, 32) for file in files])})[0]
    model = load_model("models/m1", storage=bench.storage, settings=bench.settings)
    with torch.inference_mode():
        expected = model.network(torch.cat([model.prepare(file) for file in files])).softmax(1).numpy()
    assert np.allclose(found, expected, atol=1e-5)


def test_torchscript_carries_its_card(bench: Any) -> None:
    make_model(bench, bench.several_labels(images=16), epochs=1)
    files = {"model_card.json": ""}
    script = torch.jit.load(io.BytesIO(exported(bench, ExportFormat.TORCHSCRIPT)), _extra_files=files)
    assert len(json.loads(files["model_card.json"])["thresholds"]) == 2
    path = bench.folder / "several" / "3.png"
    model = load_model("models/m1", storage=bench.storage, settings=bench.settings)
    with torch.inference_mode():
        found = script(torch.from_numpy(decode(path.read_bytes(), 32).copy())[None])
        assert torch.allclose(found, model.network(model.prepare(path.read_bytes())).sigmoid(), atol=1e-5)


def test_the_zips_script_runs_without_this_project_and_says_the_same(bench: Any, tmp_path: Path) -> None:
    make_model(bench, bench.stripes(per_class=8), epochs=1)
    with zipfile.ZipFile(io.BytesIO(exported(bench, ExportFormat.ZIP))) as archive:
        assert set(archive.namelist()) == {"model.onnx", "model_card.json", "predict.py", "requirements.txt", "README.md"}
        archive.extractall(tmp_path / "elsewhere")
    pictures = pictures_of_many_kinds(tmp_path)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    # -I keeps the working folder and PYTHONPATH away: what it imports are packages, and of these none may be ours or torch.
    guard = "import sys, runpy; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__');"
    guard += " assert not {'torch', 'timm', 'core', 'worker', 'bot'} & set(sys.modules)"
    command = [sys.executable, "-I", "-c", guard, str(tmp_path / "elsewhere" / "predict.py"), *map(str, pictures)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["picture"] for answer in answers] == [str(path) for path in pictures]
    for path, answer in zip(pictures, answers, strict=True):
        ours = predict("models/m1", path.read_bytes(), storage=bench.storage, settings=bench.settings)["labels"]
        # A turned JPEG is stored here as a JPEG once more, which moves its bytes a little.
        allowed = 0.02 if path.suffix == ".jpg" else 1e-4
        confidence = {item["label"]: item["confidence"] for item in answer["labels"]}
        assert all(abs(confidence[item["label"]] - item["confidence"]) < allowed for item in ours), path.name
    (tmp_path / "broken.png").write_bytes(pictures[0].read_bytes()[:60])
    (tmp_path / "planes.tif").write_bytes(deep_tiff(np.zeros((60, 80, 3), np.uint16), apart=True))
    (tmp_path / "signs.tif").write_bytes(deep_tiff(np.zeros((60, 80, 1), np.int16), ">", DEFLATE))
    awkward = [str(tmp_path / name) for name in ("broken.png", "none.png", "planes.tif", "signs.tif")] + [str(pictures[0])]
    done = subprocess.run([*command[:5], *awkward], capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 1 and done.stderr.strip() == "4 of 5 pictures could not be read."
    assert ["error" in json.loads(line) for line in done.stdout.splitlines()] == [True] * 4 + [False]
    with_threshold = [*command[:5], str(pictures[0]), "--threshold", "0.5"]
    done = subprocess.run(with_threshold, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 2 and "this model has no threshold" in done.stderr


def test_the_zips_script_sees_what_is_imported(tmp_path: Path) -> None:
    for path in pictures_of_many_kinds(tmp_path):
        if path.suffix == ".jpg":
            continue  # decoded smaller there
        shown, size = elsewhere.read(path, 32)
        ours = flattened(Image.open(io.BytesIO(read_image(path.read_bytes(), 1 << 30).data)))
        assert size == ours.size and np.array_equal(shown, ours), path.name


def pictures_of_many_kinds(folder: Path) -> list[Path]:
    """A plain one, a wide one, some of 16 bits, with a hot pixel too, transparent ones, a TIFF and a JPEG that lie on their sides."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[0:120, 0:160]
    grey = (127 + 120 * np.sin(x / 9 + y / 31)).astype(np.uint8)
    pictures = {
        "plain.png": Image.fromarray(grey),
        "wide.png": Image.fromarray(random.integers(0, 255, (20, 900, 3), dtype=np.uint8)),
        "deep.png": Image.fromarray(grey.astype(np.uint16) * 200 + 700),
        "hot.png": Image.fromarray(np.where((x == 7) & (y == 9), 65535, grey.astype(np.uint16) * 16)),
        "hot_dim.png": Image.fromarray(np.where((x == 7) & (y == 9), np.uint16(65535), grey)),
        "dead.tif": Image.fromarray(np.where((x == 7) & (y == 9), np.float32(-9999), grey / np.float32(255))),
        "dots.png": Image.fromarray(np.where((x == 7) & (y < 9), 65535, grey.astype(np.uint16) * 16)),
        "clear.png": Image.merge("LA", [Image.fromarray(grey), Image.fromarray(255 - grey)]),
    }
    for name, picture in pictures.items():
        picture.save(folder / name)
    (folder / "deep_colour.png").write_bytes(deep_png(random.integers(0, 4096, (60, 80, 3))))
    hot = random.integers(0, 4096, (60, 80, 3))
    hot[5, 5] = 65535
    (folder / "hot_colour.png").write_bytes(deep_png(hot))
    (folder / "deep_clear.png").write_bytes(deep_png(random.integers(0, 4096, (60, 80, 2)) * (1, 16)))
    colours = random.integers(0, 4096, (60, 80, 4), dtype=np.uint16) * np.array([1, 1, 1, 16], np.uint16)
    (folder / "deep.tif").write_bytes(deep_tiff(colours[..., :3], ">"))
    (folder / "deep_packed.tif").write_bytes(deep_tiff(colours[..., :3], compression=DEFLATE, differences=True))
    (folder / "deep_clear.tif").write_bytes(deep_tiff(colours, orientation=6))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(grey).convert("RGB").save(folder / "turned.jpg", exif=exif, quality=95)
    others = ("deep_colour.png", "hot_colour.png", "deep_clear.png", "deep.tif", "deep_packed.tif", "deep_clear.tif", "turned.jpg")
    return [folder / name for name in (*pictures, *others)]


def test_an_export_with_other_numbers_is_not_handed_out(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    make_model(bench, bench.stripes(per_class=4), epochs=1)
    load = torch.jit.load

    def other(file: Any) -> Any:
        loaded = load(file)
        return lambda images: loaded(images) + 3e-4

    monkeypatch.setattr(torch.jit, "load", other)
    with pytest.raises(UnavailableError, match=r"other numbers than the original .up to 0.0003"):
        export_model("models/m1", "m", ExportFormat.TORCHSCRIPT, storage=bench.storage, settings=bench.settings)
    assert bench.storage.list("exports") == []


class Rounding(nn.Module):
    """Gives a tenth of what it is given, by way of numbers so large that single precision keeps three digits of it."""

    def __init__(self) -> None:
        super().__init__()
        self.large = nn.Parameter(torch.tensor(1e4))

    def forward(self, images: Tensor) -> Tensor:
        return (self.large + images.to(self.large.dtype) / 10) - self.large


@pytest.mark.parametrize(("error", "agrees"), [(3e-4, True), (3e-2, False), (float("nan"), False)])
def test_an_export_may_differ_by_what_rounding_makes_of_the_original(error: float, agrees: bool) -> None:
    network = Rounding()
    pictures = [np.array([[1, 2, 3]], np.uint8)]
    model: Any = SimpleNamespace(task_type=TaskType.SINGLE_LABEL, gives_instances=False, card={"preprocessing": {"size": [1, 1]}})
    answer = network(torch.from_numpy(pictures[0])).detach().numpy()
    assert 1e-4 < np.abs(answer - pictures[0] / 10).max() < 1e-3
    for _ in range(2):  # the network is as it was before
        if agrees:
            checked = export._compared(network, lambda _: [answer + np.float32(error)], model, "ONNX", b"", pictures)
            assert checked.difference == pytest.approx(error, rel=1e-2)
        else:
            with pytest.raises(UnavailableError, match="other numbers"):
                export._compared(network, lambda _: [answer + np.float32(error)], model, "ONNX", b"", pictures)
    assert network.large.dtype == torch.float32


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("size", [(64, 64), (640, 480), (40, 90), (2048, 1024)])
def test_the_zips_script_marks_the_places_that_were_judged(size: tuple[int, int], exclusive: bool) -> None:
    """Thin and small structures above all: stretched probabilities would make them thicker than stretched logits."""
    logits = 3 * torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(0)) - 2
    logits[:, 20] = torch.tensor([1.0, -6, -6])[:, None]
    ours = {one["label"]: one["share"] for one in find_regions(logits, size, ["a", "b", "c"], exclusive=exclusive)}
    given = probabilities_of(logits[None], exclusive=exclusive)[0].numpy()
    said = elsewhere.describe({"classes": ["a", "b", "c"], "exclusive": exclusive}, given, size, None, "x")["regions"]
    assert {one["label"]: one["share"] for one in said} == pytest.approx(ours, rel=2e-3)


@pytest.mark.parametrize("size", [(64, 64), (640, 480), (40, 90), (20, 30)])
def test_the_zips_script_stretches_masks_of_objects_as_the_bot_does(size: tuple[int, int]) -> None:
    mask = torch.zeros(64, 64)
    mask[20:37, 5:50] = torch.rand(17, 45, generator=torch.Generator().manual_seed(0))
    whole = torch.nn.functional.interpolate(mask[None, None], size[::-1], mode="bilinear", align_corners=False)[0, 0] >= 0.5
    assert np.mean(elsewhere.covered_at(mask.numpy(), size) != whole.numpy()) < 1e-3
    assert not elsewhere.covered_at(np.zeros((64, 64), np.float32), size).any()


def test_masks_of_the_zips_script_have_the_pictures_size_and_names_of_their_own(tmp_path: Path) -> None:
    paths = [Path("left/a.png"), Path("right/a.png"), Path("a-2.png"), Path("right/A.jpg"), Path("b.png")]
    stems = elsewhere.named_apart(paths)
    assert stems[0] == "a" and stems[4] == "b" and len({stem.casefold() for stem in stems}) == 5
    size = (elsewhere.LARGEST_JUDGED * 2, 400)  # is judged at half of it
    probabilities = np.zeros((1, 32, 32), np.float32)
    probabilities[0, :, :16] = 1  # the left half
    card = {"classes": ["sky/cloud"], "exclusive": False}
    (said,) = elsewhere.describe(card, probabilities, size, tmp_path / "masks", stems[1])["regions"]
    assert said["mask"] == str(tmp_path / "masks" / f"{stems[1]}-sky-cloud.png")
    mask = np.asarray(Image.open(said["mask"]))
    assert mask.shape == size[::-1] and set(np.unique(mask)) == {0, 255}
    assert mask[:, :950].all() and not mask[:, 1100:].any()


@pytest.mark.parametrize("size", [(6000, 4000), (64, 64), (1500, 90), (20, 30)])
def test_areas_are_told_in_the_pixels_of_the_picture(size: tuple[int, int]) -> None:
    """Of which a mask's file has as many, whatever the mask's own size is."""
    mask = np.random.default_rng(0).random((64, 96)) < 0.3
    stretched = np.asarray(Image.fromarray(mask.astype(np.uint8)).resize(size, Image.Resampling.NEAREST))
    assert elsewhere.pixels_at(mask, size) == found_regions.pixels_at(mask, size) == int(stretched.sum())


def test_the_zip_says_how_masks_are_had() -> None:
    def read_me(task_type: TaskType, **about: bool) -> str:
        model = SimpleNamespace(task_type=task_type, card={"name": "Cells"}, classes=["a", "b"], gives_instances=False, finds_objects=False)
        return export._read_me(SimpleNamespace(**{**vars(model), **about}))

    assert "--masks FOLDER" in read_me(TaskType.OBJECT_SEGMENTATION) and "for each class" in read_me(TaskType.OBJECT_SEGMENTATION)
    instances = read_me(TaskType.OBJECT_SEGMENTATION, gives_instances=True, finds_objects=True)
    assert "for each object" in instances and "--threshold" in instances
    assert "--masks" not in read_me(TaskType.SINGLE_LABEL) and "--threshold" not in read_me(TaskType.SINGLE_LABEL)
    assert "--threshold" in read_me(TaskType.MULTI_LABEL)


def test_the_zips_script_takes_pictures_as_large_as_the_bot_does(tmp_path: Path) -> None:
    assert Settings(home=tmp_path, _env_file=None).max_image_pixels == 2 * elsewhere.LARGEST_PICTURE


def test_a_chat_is_sent_the_export_and_the_storage_keeps_none(bench: Any) -> None:
    make_model(bench, bench.stripes(per_class=4), epochs=1)
    model = stripes_model(created_by="slack:U1")
    with bench.database.write() as session:
        session.add(model)
    worker = threading.Thread(target=bench.serve_a_light_job)
    worker.start()
    desk = Desk(bench.database, bench.storage, bench.settings)
    person, place = Actor("default", "slack:U1", "Ada"), Place("slack", "T1", "C1")
    offered = [control.value for control in desk.press(person, place, "model:download", model.id).controls]
    assert offered == [f"{model.id} onnx", f"{model.id} torchscript", f"{model.id} zip"]
    reply = desk.press(person, place, "model:export", offered[1])
    worker.join()
    assert [file.name for file in reply.files] == ["Stripes.pt"]
    assert torch.jit.load(io.BytesIO(reply.files[0].data))(torch.zeros(1, 32, 32, 3, dtype=torch.uint8)).shape == (1, 2)
    assert bench.storage.list("exports") == []
