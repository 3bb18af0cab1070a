"""Advice worth following: for every kind of task, data and preference something that can be built, fits, and is at hand."""

import itertools
from dataclasses import replace

import pytest
from new_tasks import training_of

from core.clock import now
from core.datasets.records import load_records
from core.datasets.splitting import split_records
from core.db.tables import Annotation, AnnotationSet, Dataset, DatasetImage, Epoch
from core.errors import InvalidInputError
from core.settings import Settings
from core.tasks.creation import create_task
from core.tasks.hyperparameters import TrainingPlan
from core.vocabulary import AnnotationKind, DataType, TaskType
from core.zoo import catalogue, weights
from core.zoo.estimates import Experience, estimate, learn, memory, planned_rate, work
from core.zoo.facts import DatasetFacts, DeviceFacts, facts_of
from core.zoo.recipes import RECIPES
from core.zoo.recommend import PREFERENCES, recommend

LAPTOP = DeviceFacts("cpu", 8_000_000_000, 2)
SMALL_GPU = DeviceFacts("cuda", 8_000_000_000, 8, name="a small GPU")
LARGE_GPU = DeviceFacts("cuda", 80_000_000_000, 16, name="a large GPU")
DATASETS = {
    "171 scans": DatasetFacts(171, 2, 512, 512, 0.1),
    "5,000 digits": DatasetFacts(5_000, 10, 28, 28, 0.6),
    "20,000 photographs": DatasetFacts(20_000, 40, 1280, 960, 0.2),
    "600 wide shots of tiny things": DatasetFacts(600, 3, 4000, 3000, 0.01),
    "12 images": DatasetFacts(12, 2, 640, 480, 0.3),
    "a million images": DatasetFacts(1_000_000, 1000, 500, 375, 0.4),
}


@pytest.fixture
def settings(tmp_path):
    return Settings(home=tmp_path, offline=True, _env_file=None)


def everything(spec) -> bool:
    return True


KINDS = [(task_type, False) for task_type in TaskType] + [(TaskType.OBJECT_SEGMENTATION, True)]


@pytest.mark.parametrize("devices", [LAPTOP, LARGE_GPU], ids=["laptop", "gpu"])
@pytest.mark.parametrize(("task_type", "instances"), KINDS)
def test_a_larger_preference_is_never_a_smaller_network(settings, task_type, instances, devices):
    for facts in DATASETS.values():
        for data_type in (DataType.X_RAY, DataType.PHOTO):
            sizes = []
            for preference in PREFERENCES:
                found = recommend(task_type, data_type, preference, facts, devices, settings, instances=instances, at_hand=everything)
                best = found[0]
                assert task_type in best.spec.task_types
                assert best.spec.instances_only == instances
                assert best.spec.pretraining != "none"
                assert weights.allowed(best.spec, settings)
                assert best.spec.accepts_size(best.image_size)
                assert best.memory_bytes <= devices.memory_bytes
                assert best.seconds > 0
                assert len(best.reasons) >= 4
                assert [item.score for item in found] == sorted((item.score for item in found), reverse=True)
                sizes.append((best.spec.gmacs, best.spec.parameters))
            assert all(first[0] <= second[0] and first[1] <= second[1] for first, second in itertools.pairwise(sizes)), sizes


def test_with_everything_at_hand_preferences_differ(settings):
    for task_type, instances in KINDS:
        names = {
            recommend(
                task_type,
                DataType.PHOTO,
                preference,
                DATASETS["20,000 photographs"],
                LARGE_GPU,
                settings,
                instances=instances,
                at_hand=everything,
            )[0].spec.network
            for preference in PREFERENCES
        }
        assert len(names) >= 4, (task_type, instances, names)


def test_without_any_weights_networks_from_scratch_are_suggested(settings):
    for task_type, instances in KINDS:
        best = recommend(
            task_type, DataType.OTHER, 3, DATASETS["171 scans"], SMALL_GPU, settings, instances=instances, at_hand=lambda spec: False
        )[0]
        assert best.spec.pretraining == "none"
        assert any("from scratch" in reason for reason in best.reasons)


def test_weights_under_other_licences_are_suggested_only_where_allowed(settings):
    foreign = {spec.name for spec in catalogue.entries() if not weights.allowed(spec, settings)}
    for preference in PREFERENCES:
        found = recommend(
            TaskType.SINGLE_LABEL, DataType.PHOTO, preference, DATASETS["5,000 digits"], LARGE_GPU, settings, at_hand=everything, count=50
        )
        assert not foreign & {item.spec.name for item in found}


def test_images_that_the_pretraining_has_seen_count_and_are_named(settings):
    from dataclasses import replace

    plain = catalogue.find_spec("densenet121", "none")
    seen = replace(plain, pretraining="chest", pretrained_on="chest X-rays", licence="MIT", data_types=("x-ray",))
    other = replace(
        plain, pretraining="photos", pretrained_on="photographs", licence="MIT", accuracy=0.8, accuracy_source="a table; of ours"
    )
    best = recommend(
        TaskType.SINGLE_LABEL, DataType.X_RAY, 3, DATASETS["171 scans"], LAPTOP, settings, specs=[seen, other], at_hand=everything
    )[0]
    assert best.spec.pretraining == "chest"
    assert any("chest X-rays" in reason and "as yours are" in reason for reason in best.reasons)
    assert any("171 images are few" in reason for reason in best.reasons)


def test_a_small_device_gets_a_smaller_batch_and_network(settings):
    tiny = DeviceFacts("cuda", 3_000_000_000, 4, name="a tiny GPU")
    for task_type, instances in KINDS:
        best = recommend(
            task_type,
            DataType.PHOTO,
            5,
            DATASETS["20,000 photographs"],
            tiny,
            settings,
            instances=instances,
            at_hand=everything,
        )[0]
        assert best.memory_bytes <= tiny.memory_bytes
        assert any("fits the 3 GB" in reason for reason in best.reasons)


def test_tiny_objects_call_for_fine_levels(settings):
    specs = [spec for spec in catalogue.entries() if spec.network in ("faster_rcnn-resnet50", "retinanet-resnet50")]
    best = recommend(
        TaskType.OBJECT_DETECTION,
        DataType.AERIAL,
        4,
        DATASETS["600 wide shots of tiny things"],
        LARGE_GPU,
        settings,
        specs=specs,
        at_hand=everything,
    )[0]
    assert best.spec.family == "Faster R-CNN"
    assert any("objects are small" in reason for reason in best.reasons)


@pytest.mark.parametrize("preference", [0, 6, -1])
def test_a_preference_is_a_number_from_one_to_five(settings, preference):
    with pytest.raises(InvalidInputError, match="1"):
        recommend(TaskType.SINGLE_LABEL, DataType.PHOTO, preference, DATASETS["12 images"], LAPTOP, settings)


def test_estimates_follow_what_past_tasks_took(database, settings, add_dataset):
    """A job that ran at twice the planned speed makes the next estimate shorter, more so when there are several."""
    spec = catalogue.find_spec("resnet18", "none")
    facts = DATASETS["20,000 photographs"]
    before = estimate(spec, facts, LAPTOP)
    dataset = add_dataset("cells")
    new = training_of(dataset, plans=[TrainingPlan(image_size=128, batch_size=32, epochs=1)])
    twice = 2 * planned_rate(LAPTOP) / work(spec, 128, LAPTOP.kind)
    estimates = [before.seconds]
    for _ in range(2):
        with database.write() as session:
            (job,) = create_task(session, settings, new).jobs
            job.state, job.device, job.epoch, job.finished_at = "finished", "CPU, 2 cores", 1, now()
            values = {"images_per_second": twice, "peak_memory_bytes": memory(spec, 128, 32, LAPTOP, 2.0)}
            session.add(Epoch(job_id=job.id, number=1, values=values))
        with database.read() as session:
            experience = learn(session, LAPTOP)
        estimates.append(estimate(spec, facts, LAPTOP, experience).seconds)
    assert estimates[0] > estimates[1] > estimates[2] > before.seconds / 2
    assert experience.jobs == {"convolutional": 2}
    assert 1.5 < experience.memory_factor["convolutional"] < 2
    assert any(
        "2 past jobs" in reason
        for reason in recommend(TaskType.SINGLE_LABEL, DataType.PHOTO, 3, facts, LAPTOP, settings, experience=experience)[0].reasons
    )
    with database.read() as session:
        assert learn(session, LARGE_GPU) == Experience()  # another device's past says nothing


def test_the_memory_of_regions_grows_with_their_classes_that_of_labels_does_not():
    regions, labels = catalogue.find_spec("fpn-tf_efficientnet_lite0"), catalogue.find_spec("tf_efficientnet_lite0")
    few, many = (memory(regions, 512, 8, LARGE_GPU, classes=classes) for classes in (2, 150))
    assert many - few == 148 * 24 * 512**2 * 8
    assert memory(labels, 224, 8, LARGE_GPU, classes=2) == memory(labels, 224, 8, LARGE_GPU, classes=1000)


def test_the_size_of_objects_is_read_from_the_annotations(database):
    dataset = Dataset(workspace="default", name="cars", state="ready", image_count=2, median_width=200, median_height=100, created_by="ada")
    dataset.annotation_sets = [AnnotationSet(position=0, name="boxes", kind="boxes", classes=["car"], class_counts=[3], image_count=2)]
    with database.write() as session:
        session.add(dataset)
        session.flush()
        chosen = dataset.annotation_sets[0]
        for position, boxes in enumerate([[[0, 0, 0, 20, 10], [0, 50, 50, 40, 20]], [[0, 5, 5, 20, 10]]]):
            session.add(
                DatasetImage(dataset_id=dataset.id, position=position, path="a", key="a", width=200, height=100, sha256=str(position))
            )
            session.add(Annotation(annotation_set_id=chosen.id, position=position, value={"boxes": boxes}))
    with database.read() as session:
        dataset = session.get(Dataset, dataset.id)
        assert facts_of(session, dataset, dataset.annotation_sets[0]).object_side == pytest.approx(0.1)


def test_a_category_that_no_image_shows_makes_no_set_uneven(database):
    dataset = Dataset(workspace="default", name="cars", state="ready", image_count=240, median_width=9, median_height=9, created_by="ada")
    dataset.annotation_sets = [
        AnnotationSet(
            position=0, name="labels", kind="multi-label", classes=["car", "bus", "tram"], class_counts=[100, 0, 140], image_count=240
        )
    ]
    with database.write() as session:
        session.add(dataset)
    with database.read() as session:
        dataset = session.get(Dataset, dataset.id)
        facts = facts_of(session, dataset, dataset.annotation_sets[0])
    assert (facts.smallest_class, facts.largest_class) == (100, 140)


@pytest.mark.parametrize(
    ("splits", "images", "training"),
    [
        (["train"] * 3 + ["val"] * 2 + ["test"] * 4, 5, 3),  # the test images are nobody's
        (["train"] * 3 + ["test"] * 4, 7, 3),
        (["train"] * 5, 5, 4),  # to be divided
        ([""] * 10, 10, 8),
        (["train", "", "", "val"], 4, 3),
    ],
)
@pytest.mark.parametrize("without_labels", [0, 3])
def test_the_images_of_a_training_are_those_that_the_source_gives_to_it(database, splits, images, training, without_labels):
    everything = splits + [splits[0]] * without_labels
    dataset = Dataset(workspace="default", name="pets", state="ready", image_count=len(everything), created_by="ada")
    dataset.statistics = {"splits": {name: everything.count(name) for name in set(everything) if name}}
    labels = AnnotationSet(
        position=0, name="labels", kind="single-label", classes=["cat"], class_counts=[len(splits)], image_count=len(splits)
    )
    dataset.annotation_sets = [labels]
    with database.write() as session:
        session.add(dataset)
        session.flush()
        for position, split in enumerate(everything):
            session.add(
                DatasetImage(
                    dataset_id=dataset.id, position=position, path="a", key="a", width=9, height=9, sha256=str(position), split=split
                )
            )
            if position < len(splits):
                session.add(Annotation(annotation_set_id=labels.id, position=position, value={"label": 0}))
    with database.read() as session:
        dataset = session.get(Dataset, dataset.id)
        facts = facts_of(session, dataset, dataset.annotation_sets[0])
        divided = split_records(load_records(session, dataset.id, labels.id), AnnotationKind.SINGLE_LABEL, 20, seed=0)
    assert (facts.images, facts.training) == (images, training)
    assert (len(divided.train), len(divided.train) + len(divided.validation)) == (training, images), "as a training divides them"


def test_one_core_and_one_past_job_are_told_in_the_singular(settings):
    facts = DATASETS["12 images"]
    one_core = replace(LAPTOP, cores=1)
    found = recommend(
        TaskType.SINGLE_LABEL, DataType.PHOTO, 1, facts, one_core, settings, experience=Experience(jobs=dict.fromkeys(RECIPES, 1))
    )[0]
    assert found.reasons[-1].endswith("on 1 CPU core, as 1 past job here suggests")
