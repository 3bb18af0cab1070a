"""Splits: stratified, reproducible, groups whole, the source's own respected."""

import random
from collections import Counter
from typing import Any

import pytest

from core.datasets.records import Record
from core.datasets.splitting import load_or_create_split, split_records
from core.errors import BadDataError
from core.vocabulary import AnnotationKind

SINGLE, MULTI = AnnotationKind.SINGLE_LABEL, AnnotationKind.MULTI_LABEL


def record(position: int, value: dict[str, Any], split: str = "", group: str = "") -> Record:
    return Record(position, f"{position}.png", "key", 32, 32, split, group, value)


def single(counts: list[int], **more: Any) -> list[Record]:
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    return [record(position, {"label": label}, **more) for position, label in enumerate(labels)]


@pytest.mark.parametrize("percent", [1, 10, 20, 37, 50, 99])
@pytest.mark.parametrize("counts", [[500] * 10, [3] * 100, [1, 1, 1], [1000, 10, 2, 1], [5], [2]])
def test_single_labels_keep_their_shares(counts: list[int], percent: int) -> None:
    records = single(counts)
    split = split_records(records, SINGLE, percent, 7)
    assert sorted(split.train + split.validation) == list(range(len(records)))
    assert split.validation
    trained = Counter(records[position].value["label"] for position in split.train)
    judged = Counter(records[position].value["label"] for position in split.validation)
    for label, count in enumerate(counts):
        if sum(counts) > len(counts):  # else one class must go to have anything to judge by
            assert trained[label] >= 1
        assert abs(judged[label] - count * percent / 100) <= 1.5 or trained[label] == 1
        if count >= 3:
            assert judged[label] >= 1, "nobody would know how well it is told"
    wanted = max(sum(counts) * percent / 100, sum(count >= 3 for count in counts))
    assert abs(len(split.validation) - wanted) <= max(2, len(counts) * (1 if percent > 60 else 0.05))


def test_a_class_that_only_images_of_rarer_ones_show_keeps_them_to_train_on() -> None:
    """Moving one of two images of a class would leave one to learn from."""
    records = [record(position, {"labels": labels}) for position, labels in enumerate([[0, 1], [0, 1], [0, 2], [2], [2], [2], *[[3]] * 30])]
    split = split_records(records, MULTI, 10, 0)
    shown = Counter(label for position in split.train for label in records[position].value["labels"])
    assert shown[1] == 2 and min(shown.values()) >= 2


def test_of_a_few_groups_the_smallest_validates() -> None:
    """The share that is asked for would leave the class to none."""
    sizes = [40, 30, 20, 35]
    records = [
        record(len(sizes) * 100 * number + place, {"label": 0}, group=f"patient {number}")
        for number, size in enumerate(sizes)
        for place in range(size)
    ] + [record(10_000 + place, {"label": 1}) for place in range(100)]
    split = split_records(records, SINGLE, 5, 0)
    held = {one.group for one in records if one.position in set(split.validation)} - {""}
    assert held == {"patient 2"}


def test_the_seed_decides() -> None:
    records = single([50, 50])
    assert split_records(records, SINGLE, 20, 1) == split_records(records, SINGLE, 20, 1)
    assert split_records(records, SINGLE, 20, 1) != split_records(records, SINGLE, 20, 2)


def test_groups_are_never_divided() -> None:
    rng = random.Random(0)
    records = [record(position, {"label": rng.randrange(3)}, group=f"patient {rng.randrange(40)}") for position in range(400)]
    split = split_records(records, SINGLE, 25, 0)
    assert not {records[p].group for p in split.train} & {records[p].group for p in split.validation}
    assert 60 <= len(split.validation) <= 140


def test_many_labels_keep_their_shares() -> None:
    rng = random.Random(0)
    records = [record(position, {"labels": [label for label in range(6) if rng.random() < 0.5 / 2**label]}) for position in range(1000)]
    split = split_records(records, MULTI, 20, 0)
    for label in range(6):
        total = sum(label in one.value["labels"] for one in records)
        judged = sum(label in records[position].value["labels"] for position in split.validation)
        assert abs(judged - total * 0.2) <= max(2, total * 0.04), (label, total, judged)
    assert 150 <= len(split.validation) <= 250


def test_explicit_splits_are_respected() -> None:
    names = ["train", "val", "test", ""] * 5
    records = [record(position, {"label": 0}, split=name) for position, name in enumerate(names)]
    split = split_records(records, SINGLE, 20, 0)
    assert {names[position] for position in split.train} == {"train", ""}
    assert {names[position] for position in split.validation} == {"val"}
    without_val = [one for one in records if one.split != "val"]
    assert {names[position] for position in split_records(without_val, SINGLE, 20, 0).validation} == {"test"}
    only_train = [one for one in records if one.split == "train"]
    assert len(split_records(only_train, SINGLE, 20, 0).validation) == 1


def test_too_little_to_divide_is_said() -> None:
    with pytest.raises(BadDataError):
        split_records(single([1]), SINGLE, 20, 0)
    with pytest.raises(BadDataError):
        split_records(single([5], group="one patient"), SINGLE, 20, 0)


def test_the_kept_split_stays(home: Any) -> None:
    records = single([20, 20])
    first = load_or_create_split(home.storage, "tasks/t/split.json", records, SINGLE, 20, 0)
    assert load_or_create_split(home.storage, "tasks/t/split.json", records, SINGLE, 50, 9) == first
