"""What a batch test found."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from worker.reports.batch.cases import Case
from worker.reports.batch.page import case_studies
from worker.reports.rates import Rates

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
    known = {name: Rates(*row).overlap for name, row in zip(classes, counts.tolist(), strict=True)}
    return sorted(classes, key=lambda name: 2.0 if (value := known[name]) is None else value)
