"""Evidence mode: features that tell the classes apart rank before features that do not, on real images."""

import io

import numpy as np
import pytest
from PIL import Image

from core.datasets.records import Record
from core.db.tables import Annotation, AnnotationSet, Dataset, DatasetImage
from core.errors import InvalidInputError, UnavailableError
from core.vocabulary import DataType, TaskType
from core.zoo import evidence
from core.zoo.evidence import Candidate
from core.zoo.facts import DatasetFacts, DeviceFacts
from worker.evidence import judged, logme, measure, sample

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
    with pytest.raises(InvalidInputError, match="cannot be measured"):
        evidence.candidates(TaskType.OBJECT_DETECTION, DataType.PHOTO, DatasetFacts(500, 5, 200, 200), DeviceFacts(), settings)


def test_without_weights_there_is_nothing_to_measure(settings, monkeypatch):
    monkeypatch.setattr("core.zoo.weights.Finder.locate", lambda self, spec: None)
    with pytest.raises(UnavailableError, match="at hand"):
        evidence.candidates(TaskType.SINGLE_LABEL, DataType.PHOTO, DatasetFacts(500, 5, 200, 200), DeviceFacts(), settings)
