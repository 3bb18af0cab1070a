"""Evidence mode: features that tell the classes apart rank before features that do not, on real images."""

import io
import itertools

import numpy as np
import pytest
from PIL import Image

from core.datasets import masks
from core.datasets.records import Record
from core.db.tables import Annotation, AnnotationSet, Dataset, DatasetImage
from core.errors import InvalidInputError, UnavailableError
from core.vocabulary import AnnotationKind, DataType, TaskType
from core.zoo import catalogue, evidence
from core.zoo.evidence import Candidate, Measurement
from core.zoo.facts import DatasetFacts, DeviceFacts
from core.zoo.recommend import most_gmacs
from worker.evidence.judging import judged, logme
from worker.evidence.measuring import measure, sample
from worker.evidence.places import Places, places_of

CANDIDATES = [Candidate("tf_efficientnet_lite0", "imagenet-1k", 48), Candidate("tf_efficientnet_lite0", "none", 48)]


@pytest.fixture
def stripes(database, storage):
    """A dataset whose classes are stripes across and stripes down, in noise."""

    def make(kind: str, images: int = 40) -> tuple[str, str]:
        generator = np.random.default_rng(0)
        dataset = Dataset(
            workspace="default", name=kind, state="ready", image_count=images, median_width=48, median_height=48, created_by="terminal:ada"
        )
        dataset.annotation_sets = [
            AnnotationSet(position=0, name=kind, kind=kind, classes=["across", "down"], class_counts=[images // 2] * 2, image_count=images)
        ]
        with database.write() as session:
            session.add(dataset)
            session.flush()
            for position in range(images):
                label = position % 2
                wave = np.sin(np.arange(48) * 0.8 + generator.uniform(0, 6)) * 60 + 128
                picture = np.broadcast_to(wave[:, None] if label else wave[None], (48, 48)) + generator.normal(0, 25, (48, 48))
                out = io.BytesIO()
                Image.fromarray(picture.clip(0, 255).astype(np.uint8)).convert("RGB").save(out, "PNG")
                key = f"images/{position}.png"
                storage.write(key, out.getvalue())
                session.add(
                    DatasetImage(dataset_id=dataset.id, position=position, path=key, key=key, width=48, height=48, sha256=str(position))
                )
                value = {"label": label} if kind == "single-label" else {"labels": [label]}
                session.add(Annotation(annotation_set_id=dataset.annotation_sets[0].id, position=position, value=value))
        return dataset.id, dataset.annotation_sets[0].id

    return make


@pytest.mark.parametrize("task_type", [TaskType.SINGLE_LABEL, TaskType.MULTI_LABEL])
def test_candidates_are_ranked_by_what_their_features_show(database, storage, settings, stripes, task_type):
    told = []
    result = measure(
        *stripes(task_type.value),
        task_type,
        CANDIDATES,
        database=database,
        storage=storage,
        settings=settings,
        tell=lambda done, total: told.append((done, total)),
    )
    first, second = evidence.of_result(result)
    assert (first.pretraining, second.pretraining) == ("imagenet-1k", "none")
    assert first.linear_probe > 0.9
    assert first.logme > second.logme
    assert result["images"] == 40
    assert told == [(0, 2), (1, 2)]


@pytest.fixture
def stripes_in_places(database, storage):
    """A dataset of noise with a square of stripes on each image, across or down."""

    def make(kind: str, images: int = 24) -> tuple[str, str]:
        generator = np.random.default_rng(0)
        dataset = Dataset(
            workspace="default",
            name=kind,
            state="ready",
            image_count=images,
            median_width=128,
            median_height=128,
            created_by="terminal:ada",
        )
        dataset.annotation_sets = [
            AnnotationSet(position=0, name=kind, kind=kind, classes=["across", "down"], class_counts=[images // 2] * 2, image_count=images)
        ]
        with database.write() as session:
            session.add(dataset)
            session.flush()
            for position in range(images):
                label = position % 2
                x, y = (int(place) for place in generator.integers(0, 80, 2))
                picture = generator.normal(128, 25, (128, 128))
                wave = np.sin(np.arange(48) * 0.8 + generator.uniform(0, 6)) * 60
                picture[y : y + 48, x : x + 48] += np.broadcast_to(wave[:, None] if label else wave[None], (48, 48))
                mask = np.zeros((128, 128), np.uint8)
                mask[y : y + 48, x : x + 48] = 1
                out = io.BytesIO()
                Image.fromarray(picture.clip(0, 255).astype(np.uint8)).convert("RGB").save(out, "PNG")
                key = f"images/{kind}-{position}.png"
                storage.write(key, out.getvalue())
                session.add(
                    DatasetImage(dataset_id=dataset.id, position=position, path=key, key=key, width=128, height=128, sha256=str(position))
                )
                value = {
                    "boxes": {"boxes": [[label, x, y, 48, 48]]},
                    "regions": {"masks": [[label, masks.encode(mask)]]},
                    "instances": {"objects": [[label, masks.encode(mask)]]},
                }[kind]
                session.add(Annotation(annotation_set_id=dataset.annotation_sets[0].id, position=position, value=value))
        return dataset.id, dataset.annotation_sets[0].id

    return make


@pytest.mark.parametrize(
    ("kind", "task_type", "network"),
    [
        ("boxes", TaskType.OBJECT_DETECTION, "retinanet-tf_efficientnet_lite0"),
        ("regions", TaskType.OBJECT_SEGMENTATION, "unet-tf_efficientnet_lite0"),
        ("instances", TaskType.OBJECT_SEGMENTATION, "mask_rcnn-tf_efficientnet_lite0"),
    ],
)
def test_networks_for_places_are_ranked_by_what_their_backbones_tell_of_places(
    database, storage, settings, stripes_in_places, kind, task_type, network
):
    chosen = [Candidate(network, "none", 128), Candidate(network, "imagenet-1k", 128)]
    result = measure(*stripes_in_places(kind), task_type, chosen, database=database, storage=storage, settings=settings)
    first, second = evidence.of_result(result)
    assert (first.pretraining, second.pretraining) == ("imagenet-1k", "none")
    assert first.linear_probe > 0.8
    assert result["images"] == 24


def test_places_that_show_nothing_lie_beside_the_objects_and_cover_what_they_say():
    records = [Record(row, "", "", 200, 100, "", "", {"boxes": [[row % 2, 20, 10, 100, 50], [0, 150, 60, 40, 30]]}) for row in range(6)]
    places = places_of(records, AnnotationKind.BOXES, 2)
    assert set(places.labels.tolist()) == {0, 1, 2}
    assert [0.1, 0.1, 0.6, 0.6] in [pytest.approx(box) for box in places.boxes.tolist()]
    for x1, y1, x2, y2 in places.boxes[places.labels == 2]:
        for left, top, right, bottom in ((0.1, 0.1, 0.6, 0.6), (0.75, 0.6, 0.95, 0.9)):
            shared = max(0, min(x2, right) - max(x1, left)) * max(0, min(y2, bottom) - max(y1, top))
            assert shared <= 0.2 * (x2 - x1) * (y2 - y1) + 1e-6
    whole = Places(np.array([0]), np.array([0]), np.array([[0.25, 0.0, 0.5, 1.0]], np.float32))
    assert whole.covering(0, 2, 4)[0].tolist() == [0, 0.5, 0, 0]  # the second of four columns, both rows alike


def test_a_class_on_one_image_only_is_left_out():
    records = [Record(row, "", "", 100, 100, "", "", {"boxes": [[2 if row == 3 else 0, 10, 10, 30, 30]]}) for row in range(6)]
    assert set(places_of(records, AnnotationKind.BOXES, 3).labels.tolist()) == {0, 3}


def test_too_few_images_are_told(database, storage, settings, stripes):
    with pytest.raises(InvalidInputError, match="too few"):
        measure(*stripes("single-label", 6), TaskType.SINGLE_LABEL, CANDIDATES, database=database, storage=storage, settings=settings)


def test_features_that_hold_the_labels_have_more_evidence_than_noise():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, 120)
    noise = generator.normal(size=(120, 20))
    telling = noise + 3 * np.eye(20)[labels]
    assert logme(telling, labels) > logme(noise, labels)
    assert judged(telling, labels)[0] > 0.9
    assert judged(noise, labels)[0] < 0.6


def test_a_sample_holds_every_class_evenly():
    records = [Record(row, "", "", 8, 8, "", "", {"label": 0 if row < 900 else row % 3}) for row in range(1000)]
    labels = [record.value["label"] for record in sample(records, several=False, most=90)]
    assert [labels.count(label) for label in range(3)] == [30, 30, 30]


def test_candidates_are_what_lies_at_hand_at_several_sizes(settings):
    found = evidence.candidates(TaskType.SINGLE_LABEL, DataType.PHOTO, DatasetFacts(500, 5, 200, 200), DeviceFacts(), settings)
    assert 2 <= len(found) <= 8
    assert {candidate.network for candidate in found} == {"tf_efficientnet_lite0", "tf_efficientnet_lite1"}
    assert len({candidate.image_size for candidate in found}) > 1


@pytest.mark.parametrize(
    ("task_type", "instances"),
    [(TaskType.OBJECT_DETECTION, False), (TaskType.OBJECT_SEGMENTATION, False), (TaskType.OBJECT_SEGMENTATION, True)],
)
def test_of_networks_for_places_one_stands_for_all_with_the_same_backbone(settings, task_type, instances):
    facts = DatasetFacts(500, 5, 200, 200, object_side=0.2)
    found = evidence.candidates(task_type, DataType.PHOTO, facts, DeviceFacts(), settings, instances=instances)
    assert len(found) == len(set(found)) >= 3
    assert {candidate.network.partition("-")[2] for candidate in found} == {"tf_efficientnet_lite0", "tf_efficientnet_lite1"}
    assert len({candidate.network for candidate in found}) == 2
    assert all(catalogue.find_spec(candidate.network, candidate.pretraining).instances_only == instances for candidate in found)


def test_of_large_networks_fewer_images_are_looked_at(settings):
    small = [Candidate("tf_efficientnet_lite0", "imagenet-1k", 224)]
    large = [Candidate("vit_large_patch16_224", "none", 224)] * 2
    assert evidence.sample_size(small, settings) == 400
    assert 60 <= evidence.sample_size(large, settings) < 150


def test_without_weights_there_is_nothing_to_measure(settings, monkeypatch):
    monkeypatch.setattr("core.zoo.weights.Finder.locate", lambda self, spec: None)
    with pytest.raises(UnavailableError, match="at hand"):
        evidence.candidates(TaskType.SINGLE_LABEL, DataType.PHOTO, DatasetFacts(500, 5, 200, 200), DeviceFacts(), settings)


def measurement(name: str, probe: float) -> Measurement:
    return Measurement(name, "none", 64, probe, probe, 0.0, 1.0)


@pytest.mark.parametrize(
    ("preference", "chosen"),
    [(1, "resnet18"), (2, "resnet18"), (3, "resnet50"), (5, "resnet50")],
)
def test_the_best_measured_network_is_no_larger_than_the_preference_stands_for(settings, preference, chosen):
    """Measured best is resnet50, then resnet18; resnet152 is large and poor."""
    measured = [measurement("resnet50", 0.9), measurement("resnet18", 0.8), measurement("resnet152", 0.5)]
    limits = [most_gmacs(TaskType.SINGLE_LABEL, step) for step in range(1, preference + 1)]
    assert evidence.best_for(measured, limits, settings).network == chosen


def test_a_larger_preference_never_gives_a_smaller_network_whatever_was_measured(settings):
    names = ["resnet18", "resnet34", "resnet50", "resnet101", "convnext_tiny", "tf_efficientnet_lite0", "mobilenetv3_small_100"]
    limits = [most_gmacs(TaskType.SINGLE_LABEL, step) for step in range(1, 6)]
    generator = np.random.default_rng(0)
    for _ in range(50):
        measured = [measurement(str(name), 1 - place / 10) for place, name in enumerate(generator.permutation(names))]
        found = [catalogue.find_spec(evidence.best_for(measured, limits[:many], settings).network, "none") for many in range(1, 6)]
        assert all(one.gmacs <= other.gmacs and one.parameters <= other.parameters for one, other in itertools.pairwise(found))
