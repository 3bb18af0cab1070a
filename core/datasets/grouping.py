"""Which images belong together and never fall on both sides of a split: by `groups.csv`, by a pattern over their paths, or by DICOM study."""

import re
from pathlib import PurePosixPath

from core.datasets.cells import unescape_cell
from core.datasets.findings import Findings
from core.datasets.formats.label_csv import rows
from core.datasets.parsed import Parsed
from core.datasets.source import Source
from core.errors import InvalidInputError

_LONGEST_PATTERN = 200


def compile_pattern(pattern: str) -> re.Pattern[str] | None:
    """A pattern that people give, such as `patient(\\d+)`; None for none.

    Raises:
        InvalidInputError: when it is no regular expression.
    """
    if not pattern:
        return None
    try:
        if len(pattern) > _LONGEST_PATTERN:
            raise re.error(f"longer than {_LONGEST_PATTERN} characters")
        return re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise InvalidInputError(
            f"The group pattern cannot be used: {error}.", "Write a regular expression such as patient(\\d+)."
        ) from error


def apply_groups(parsed: Parsed, source: Source, pattern: re.Pattern[str] | None, findings: Findings) -> None:
    """Give each image its group: what the pattern captures (all of what it matches where it captures nothing), else as groups.csv says."""
    listed = _listed(source, findings)
    unmatched = 0
    for image in parsed.images:
        if pattern is not None:
            found = pattern.search(image.path)
            if found is None:
                unmatched += 1
            else:
                image.group = "/".join(part for part in found.groups() if part is not None) if found.groups() else found.group(0)
        if not image.group and listed:
            image.group = listed.get(image.path, "")
    if pattern is not None and unmatched:
        findings.warning(
            "no-group",
            "",
            f"{unmatched:,} of {len(parsed.images):,} images {'does' if unmatched == 1 else 'do'} not match the group pattern; each stands alone.",
            "Check the pattern.",
        )


def _listed(source: Source, findings: Findings) -> dict[str, str]:
    files = sorted((path for path in source.members if PurePosixPath(path).name.lower() == "groups.csv"), key=lambda path: path.count("/"))
    if not files:
        return {}
    folder = PurePosixPath(files[0]).parent
    groups: dict[str, str] = {}
    for number, row in rows(source, files[0]):
        if len(row) != 2:
            findings.error("bad-row", files[0], f"The row has {len(row)} columns.", "Write path,group.", number)
            continue
        groups[str(folder / unescape_cell(row[0].strip()))] = row[1].strip()
    return groups
