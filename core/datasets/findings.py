"""What an import notices: each finding names the file, the line, what is wrong and how to mend it."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, cast

from core.datasets.cells import csv_bytes

if TYPE_CHECKING:  # the processes that decode images need no database
    from core.db.tables import DatasetFinding

Severity = Literal["error", "warning"]

# Beyond so many of one kind a person learns nothing new; the rest is counted in one closing finding.
MOST_PER_CODE = 5_000


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing noticed. `error`: what it names was left out; `warning`: it was kept, but deserves a look.

    `line` is 1-based, None where the file has no lines or the finding is about the whole file.
    """

    severity: Severity
    code: str
    file: str
    message: str
    remedy: str
    line: int | None = None

    def to_json(self) -> dict[str, object]:
        """As a JSON object."""
        return {
            "severity": self.severity,
            "code": self.code,
            "file": self.file,
            "line": self.line,
            "message": self.message,
            "remedy": self.remedy,
        }

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line is not None else self.file
        return f"{where}: {self.message} {self.remedy}".strip() if where else f"{self.message} {self.remedy}".strip()


class Findings:
    """Findings in the order in which they were noticed, at most `MOST_PER_CODE` of each code and the number of the rest."""

    def __init__(self, source: str = "") -> None:
        self.source = source  # what findings about the whole are said of
        self.left_out: set[str] = set()  # files that an error names, those of findings that are not listed too
        self._kept: list[Finding] = []
        self._counts: Counter[tuple[str, str]] = Counter()

    def add(self, finding: Finding) -> None:
        """Note one finding."""
        if not finding.file:
            finding = replace(finding, file=self.source)
        if finding.severity == "error":
            self.left_out.add(finding.file)
        key = (finding.code, finding.severity)
        self._counts[key] += 1
        if self._counts[key] <= MOST_PER_CODE:
            self._kept.append(finding)

    def extend(self, findings: Iterable[Finding]) -> None:
        """Note several."""
        for finding in findings:
            self.add(finding)

    def error(self, code: str, file: str, message: str, remedy: str, line: int | None = None) -> None:
        """Note something that was left out."""
        self.add(Finding("error", code, file, message, remedy, line))

    def warning(self, code: str, file: str, message: str, remedy: str, line: int | None = None) -> None:
        """Note something that was kept but deserves a look."""
        self.add(Finding("warning", code, file, message, remedy, line))

    def nothing_usable(self, image: str) -> None:
        """Note that an image is left out because all that is said of it has been refused: as one without labels or objects it would mislead."""
        self.error(
            "nothing-usable",
            image,
            "All that is said of the image has been refused, so it is left out: it would be taken for one that shows nothing.",
            "Mend what is said of it; where it shows nothing, say so with an empty row or file.",
        )

    def __iter__(self) -> Iterator[Finding]:
        yield from self._kept
        for (code, severity), count in self._counts.items():
            if count > MOST_PER_CODE:
                rest = count - MOST_PER_CODE
                yield Finding(
                    cast("Severity", severity),
                    code,
                    self.source,
                    f"{rest:,} more findings of the kind “{code}” are not listed.",
                    "Mend the listed ones first.",
                )

    def __len__(self) -> int:
        return sum(self._counts.values())

    @property
    def errors(self) -> int:
        """How many things were left out."""
        return sum(count for (_, severity), count in self._counts.items() if severity == "error")

    def summary(self) -> str:
        """One sentence such as `3 left out (2 damaged-image, 1 box-outside), 5 warnings (5 duplicate-image)`."""
        return summary_of(self._counts)


def summary_of(counts: Mapping[tuple[str, str], int]) -> str:
    """`counts` by code and severity in one sentence, see `Findings.summary`."""
    parts = []
    for severity, one, several in (("error", "left out", "left out"), ("warning", "warning", "warnings")):
        own = {code: count for (code, of), count in counts.items() if of == severity}
        if own:
            total = sum(own.values())
            listed = ", ".join(f"{count:,} {code}" for code, count in sorted(own.items(), key=lambda item: -item[1]))
            parts.append(f"{total:,} {one if total == 1 else several} ({listed})")
    return ", ".join(parts)


def findings_csv(findings: "Iterable[Finding | DatasetFinding]") -> bytes:
    """Findings as a CSV file for people: one line each, no cell a formula."""
    rows: list[tuple[object, ...]] = [("severity", "code", "file", "line", "message", "remedy")]
    rows += [(one.severity, one.code, one.file, one.line or "", one.message, one.remedy) for one in findings]
    return csv_bytes(rows)
