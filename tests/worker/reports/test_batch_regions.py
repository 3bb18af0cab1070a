"""A model for regions on a whole dataset: what it marks of classes that overlap, and that no image is held when it has been judged."""

import gc
import tracemalloc
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from core.datasets import masks
from core.datasets.records import Record
from core.settings import Settings
from core.storage import Storage
from core.vocabulary import AnnotationKind, TaskType
from worker.objectives.regions import RegionMasks, RegionOutputs
from worker.reports.batch.cases import COLOURS, Case
from worker.reports.batch.page import case_studies
from worker.reports.batch.regions import TellingRegions, regions_report
from worker.reports.inference import LoadedModel
from worker.reports.region_pictures import region_pictures

SIDE = 64


class SaysChannels(nn.Module):
    """Says class 0 where an image is red and class 1 where it is green: a stand-in for learning."""

    def forward(self, images: Tensor) -> Tensor:
        return (images[:, :2] - 0.5) * 10


def model(*, exclusive: bool) -> LoadedModel:
    preprocessing = {"size": [SIDE, SIDE], "mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]}
    card = {"classes": ["red", "green"], "preprocessing": preprocessing, "exclusive": exclusive}
    return LoadedModel(card, SaysChannels(), TaskType.OBJECT_SEGMENTATION)


def block(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[top:bottom, left:right] = 1
    return mask


def stored(storage: Storage, position: int, red: np.ndarray, green: np.ndarray, true: dict[int, np.ndarray]) -> Record:
    """An image in the storage that is red and green where said, and what is true of it."""
    pixels = np.stack([red * 255, green * 255, np.zeros_like(red)], 2).astype(np.uint8)
    data = BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    storage.write(f"images/{position}.png", data.getvalue())
    value = {"masks": [[number, masks.encode(mask)] for number, mask in true.items()]}
    return Record(position, f"{position}.png", f"images/{position}.png", SIDE, SIDE, "", "", value)


RED, GREEN = block(8, 8, 44, 44), block(20, 20, 56, 56)  # both in 20 … 44


def looked_at(storage: Storage, settings: Settings, *, exclusive: bool) -> tuple[list[Case], dict[str, bytes]]:
    record = stored(storage, 0, RED, GREEN, {0: RED, 1: GREEN})
    objective = RegionMasks([record], AnnotationKind.REGIONS, ["red", "green"], settings, exclusive=exclusive)
    telling = TellingRegions(2)
    evaluator = objective.evaluator(telling.look)
    image = torch.from_numpy(np.stack([RED, GREEN, RED * 0])).float()[None]
    evaluator.update(RegionOutputs(torch.zeros(()), SaysChannels()(image)), np.array([0]))
    details = evaluator.compute().details
    drawn = region_pictures(details, AnnotationKind.REGIONS, ["red", "green"], [record], storage)
    return telling.cases(objective, ["red", "green"], [record], storage), drawn


def pixel(picture: Image.Image, x: float, y: float) -> np.ndarray:
    """The colour at a place of an image of `SIDE` px that is shown at another size."""
    return np.asarray(picture.convert("RGB"))[int(y * picture.height / SIDE), int(x * picture.width / SIDE)].astype(int)


def paler(place: tuple[int, int]) -> np.ndarray:
    """The colour of the image there, as it lies below the marks."""
    colour = np.array([255 * RED[place], 255 * GREEN[place], 0.0])
    return 0.4 * colour + 0.6 * (colour @ (0.299, 0.587, 0.114))


def test_where_classes_overlap_each_is_recognised(storage: Storage, settings: Settings, tmp_path: Path) -> None:
    cases, drawn = looked_at(storage, settings, exclusive=False)
    assert [(case.label, case.kind, case.text) for case in cases] == [
        ("red", "true-positive", "Dice 100 %"),
        ("green", "true-positive", "Dice 100 %"),
    ]
    for case, inside, outside in ((cases[0], (12, 12), (50, 50)), (cases[1], (50, 50), (12, 12))):
        picture = case.picture()
        right = np.array(COLOURS["true-positive"])
        for place in (inside, (32, 32)):  # the latter belongs to both
            assert np.abs(pixel(picture, *place) - (paler(place) + 0.65 * (right - paler(place)))).max() < 3
        assert np.abs(pixel(picture, *outside) - paler(outside)).max() < 3
    # In the training's own picture what was said looks as what is true: both colours lie over the place that belongs to both.
    page = Image.open(BytesIO(drawn["best_and_worst"]))
    true, said = (page.crop((62, top, 62 + 190, top + 190)) for top in (56, 56 + 198))
    assert (np.asarray(true) == np.asarray(said)).mean() > 0.97
    with_legend, without = (case_studies([replace(case, tinted=tinted) for case in cases], ["red", "green"]) for tinted in (True, False))
    assert case_studies(cases, ["red", "green"]) == with_legend
    with Image.open(BytesIO(with_legend)) as page, Image.open(BytesIO(without)) as bare:
        assert page.height > bare.height
        line = {tuple(colour) for colour in np.asarray(page.convert("RGB"))[45].tolist()}
    assert set(COLOURS.values()) <= line, "a swatch of each tint beside what it means"


def test_a_model_whose_classes_exclude_each_other_is_judged_so(storage: Storage, settings: Settings) -> None:
    """As it was trained, whether or not the masks that it is tested on overlap."""
    record = stored(storage, 0, RED, GREEN, {0: RED, 1: GREEN})
    apart = stored(storage, 1, RED, GREEN, {0: RED})

    def dice_of(records: list[Record], exclusive: bool) -> list[float]:
        report = regions_report(model(exclusive=exclusive), records, AnnotationKind.REGIONS, settings, storage, lambda done, total: None)
        return [report.numbers["per_class"][name]["precision"] or 0.0 for name in ("red", "green")]

    assert dice_of([record], exclusive=False) == [1.0, 1.0]
    assert dice_of([apart], exclusive=False) == [1.0, 0.0]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # pycocotools' warnings, which pytest would hold
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_nothing_is_held_of_an_image_that_has_been_judged(storage: Storage, settings: Settings) -> None:
    random = np.random.default_rng(0)
    records = []
    for position in range(96):
        red, green = ((random.random((SIDE, SIDE)) < 0.5).astype(np.uint8) for _ in range(2))
        records.append(stored(storage, position, red, green, {0: RED, 1: GREEN}))
    held: list[int] = []

    def progress(done: int, total: int) -> None:
        gc.collect()
        # Plain ones: what torch.export leaves behind in other tests has no memory.
        storages = [one.untyped_storage() for one in gc.get_objects() if type(one) is Tensor and one.device.type == "cpu"]
        tensors = {one.data_ptr(): one.nbytes() for one in storages}
        held.append(tracemalloc.get_traced_memory()[0] + sum(tensors.values()))

    tracemalloc.start()
    try:
        regions_report(model(exclusive=False), records, AnnotationKind.REGIONS, settings, storage, progress)
    finally:
        tracemalloc.stop()
    assert len(held) == 7
    grown = (held[-2] - held[2]) / 48  # bytes an image, when the most telling ones of all classes have been found
    assert grown < SIDE * SIDE / 8, held  # less than one mask of bits
