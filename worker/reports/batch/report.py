"""What a batch test found."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from worker.reports.batch.cases import Case
from worker.reports.batch.page import case_studies

PerClass = dict[str, dict[str, float | int | None]]


@dataclass(frozen=True)
class Report:
    """`numbers` for report.json, and pictures as PNG by name."""

    numbers: dict[str, Any]
    pictures: dict[str, bytes]


def report_of(numbers: dict[str, Any], drawn: dict[str, bytes], cases: Sequence[Case], order: Sequence[str]) -> Report:
    """The report, with the case studies drawn of the first classes in `order`."""
    told: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for case in cases:
        entry = {"file": case.file} | ({} if case.confidence is None else {"confidence": case.confidence})
        told.setdefault(case.label, {}).setdefault(case.kind, []).append(entry)
    return Report(numbers | {"cases": told}, drawn | {"case_studies": case_studies(cases, order)})


def by_errors(classes: Sequence[str], counts: Tensor) -> list[str]:
    """The classes with the lowest F1 first, those of which nothing is known last; from [classes, 4] of true and false positives, false and true negatives."""
    values = 2 * counts[:, 0].double() / (2 * counts[:, 0] + counts[:, 1] + counts[:, 2])
    return [classes[index] for index in values.nan_to_num(2.0).argsort().tolist()]


def share(part: float, whole: float) -> float | None:
    """`part` of `whole`; None of nothing."""
    return part / whole if whole else None
