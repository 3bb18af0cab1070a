"""Which images train and which validate: stratified, the same for the same seed, groups whole, the source's own splits respected."""

import json
import math
import random
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from core.datasets.deriving import classes_in
from core.datasets.records import Record
from core.errors import BadDataError
from core.storage import Storage
from core.vocabulary import AnnotationKind


@dataclass(frozen=True, slots=True)
class Split:
    """Positions of the training and of the validation images, each ascending."""

    train: tuple[int, ...]
    validation: tuple[int, ...]


def sides_of(present: Collection[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Which of the splits that a source has images in ("", train, val, test) train and which validate; where none validates all are divided.

    `val` validates, `test` only where there is no `val`, and `train` trains, with all that is in none.
    """
    validation = next(((name,) for name in ("val", "test") if name in present), ())
    train = tuple(name for name in ("train", "") if name in present)
    return (train, validation) if train and validation else (train or validation, ())


def trained_rows(records: Sequence[Record], validation: Collection[int]) -> list[int]:
    """The rows of `records` that are trained on where those of `validation` are kept back: not those of a source's `test` beside its `val`."""
    training, validating = sides_of({record.split for record in records})
    held = set(validation)
    return [row for row, record in enumerate(records) if row not in held and record.split in (*training, *validating)]


@dataclass(slots=True)
class _Unit:
    """Images that stay together: one group, or one image without a group."""

    positions: list[int]
    classes: dict[int, int]  # class index → how many of the images show it


def split_records(records: Sequence[Record], kind: AnnotationKind, validation_percent: int, seed: int) -> Split:
    """Split records so that each class keeps its share on both sides.

    Explicit splits of the source count: `val` validates, `test` only where there is no `val`, and `train` trains. Where the source has
    only training images, or none of its own splits, `validation_percent` of the images are drawn with `seed`, and more where a class that three
    images (or groups of them) show would have none: nobody would know how well it is told. Every class keeps at least one training image, and
    there is at least one validation image.

    Raises:
        BadDataError: when there are not even two images, or two groups, to divide.
    """
    training, validating = sides_of({record.split for record in records})
    train = [record for record in records if record.split in training]
    if not validating:
        return _drawn(train, kind, validation_percent, seed)
    return Split(_positions(train), _positions(record for record in records if record.split in validating))


def _positions(records: Iterable[Record]) -> tuple[int, ...]:
    return tuple(sorted(record.position for record in records))


def _drawn(records: Sequence[Record], kind: AnnotationKind, validation_percent: int, seed: int) -> Split:
    units = _units(records, kind)
    if len(units) < 2:
        what = "images" if len(records) < 2 else "groups of images"
        raise BadDataError(
            f"The dataset has {len(units)} of the {what} that a split into training and validation needs: at least 2.", "Add images."
        )
    random.Random(seed).shuffle(units)  # noqa: S311  # reproducible on purpose
    wanted = min(max(round(len(records) * validation_percent / 100), 1), len(records) - 1)
    chosen = _stratified(units, validation_percent / 100, wanted)
    _keep_every_class_in_training(units, chosen)
    _judge_every_class(units, chosen)
    if not any(chosen):
        chosen[_least_harmful(units)] = True
    if all(chosen):
        chosen[0] = False
    train = sorted(position for unit, taken in zip(units, chosen, strict=True) if not taken for position in unit.positions)
    validation = sorted(position for unit, taken in zip(units, chosen, strict=True) if taken for position in unit.positions)
    return Split(tuple(train), tuple(validation))


def _units(records: Sequence[Record], kind: AnnotationKind) -> list[_Unit]:
    units: list[_Unit] = []
    groups: dict[str, _Unit] = {}
    for record in records:
        unit = groups.get(record.group) if record.group else None
        if unit is None:
            unit = _Unit([], {})
            units.append(unit)
            if record.group:
                groups[record.group] = unit
        unit.positions.append(record.position)
        for index in set(classes_in(record.value, kind)):
            unit.classes[index] = unit.classes.get(index, 0) + 1
    return units


def _stratified(units: Sequence[_Unit], share: float, wanted: int) -> list[bool]:
    """For each unit whether it validates: iterative stratification (Sechidis, Tsoumakas and Vlahavas, 2011) into two parts.

    The rarest class goes first; each of its units goes to the part that still lacks that class most. With one label per image this is
    plain stratification. Units without any class come last and fill up to the size that is wanted.
    """
    remaining: dict[int, int] = {}
    holders: dict[int, list[int]] = {}
    for number, unit in enumerate(units):
        for index, count in unit.classes.items():
            remaining[index] = remaining.get(index, 0) + count
            holders.setdefault(index, []).append(number)
    lacking = {index: count * share for index, count in remaining.items()}  # of the validation part
    chosen = [False] * len(units)
    done = [False] * len(units)
    size = 0
    credit = 0.0  # what rounding has taken from the validation part so far, over all classes

    def settle(number: int, taken: bool) -> None:
        nonlocal size
        done[number], chosen[number] = True, taken
        size += len(units[number].positions) if taken else 0
        for index, count in units[number].classes.items():
            remaining[index] -= count
            if taken:
                lacking[index] -= count

    order = sorted(remaining, key=lambda index: (remaining[index], index))
    while order:
        # Counts fall as units are settled: the rarest class is looked for anew each time.
        rarest = min(range(len(order)), key=lambda place: (remaining[order[place]] or math.inf, order[place])) if len(order) <= 200 else 0
        index = order.pop(rarest)
        open_units = [number for number in holders[index] if not done[number]]
        need = lacking[index] + credit
        taken_images = 0
        for number in open_units:
            weight = units[number].classes[index]
            take = taken_images + weight / 2 <= need and taken_images + weight <= need + 0.5
            settle(number, take)
            if take:
                taken_images += weight
        if open_units:
            credit = max(-0.5, min(0.5, need - taken_images))
    for number in sorted((number for number in range(len(units)) if not done[number]), key=lambda number: -len(units[number].positions)):
        settle(number, size + len(units[number].positions) / 2 <= wanted)
    return chosen


def _keep_every_class_in_training(units: Sequence[_Unit], chosen: list[bool]) -> None:
    trained: set[int] = set()
    for unit, taken in zip(units, chosen, strict=True):
        if not taken:
            trained.update(unit.classes)
    for number, unit in enumerate(units):
        if chosen[number] and not trained.issuperset(unit.classes):
            chosen[number] = False
            trained.update(unit.classes)


def _judge_every_class(units: Sequence[_Unit], chosen: list[bool]) -> None:
    """Let a unit of each class that none validates do so, the smallest, where at least two that show what it shows are left to train on."""
    training = Counter(index for unit, taken in zip(units, chosen, strict=True) if not taken for index in unit.classes)
    judged = {index for unit, taken in zip(units, chosen, strict=True) if taken for index in unit.classes}
    holders: dict[int, list[int]] = {}
    for number, unit in enumerate(units):
        for index in unit.classes:
            holders.setdefault(index, []).append(number)
    for index in sorted(training, key=lambda index: (training[index], index)):
        spare = [number for number in holders[index] if not chosen[number] and all(training[shown] > 2 for shown in units[number].classes)]
        if index in judged or not spare:
            continue
        number = min(spare, key=lambda number: len(units[number].positions))
        chosen[number] = True
        judged.update(units[number].classes)
        training.subtract(units[number].classes.keys())


def _least_harmful(units: Sequence[_Unit]) -> int:
    """The unit whose classes occur most elsewhere, to validate where the shares leave nothing to validate with."""
    counts: dict[int, int] = {}
    for unit in units:
        for index in unit.classes:
            counts[index] = counts.get(index, 0) + 1
    return max(
        range(len(units)),
        key=lambda number: (
            min((counts[index] for index in units[number].classes), default=math.inf),
            -len(units[number].positions),
            -number,
        ),
    )


def load_or_create_split(
    storage: Storage, key: str, records: Sequence[Record], kind: AnnotationKind, validation_percent: int, seed: int
) -> Split:
    """The split kept at `key`, made and written once, so that all jobs of a task judge by the same images."""
    if not storage.exists(key):
        made = split_records(records, kind, validation_percent, seed)
        # Two jobs that begin together write the same bytes: the split depends on nothing but its arguments.
        storage.write(key, json.dumps({"train": made.train, "validation": made.validation}).encode())
    kept = json.loads(storage.read(key))
    return Split(tuple(kept["train"]), tuple(kept["validation"]))
