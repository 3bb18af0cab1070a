"""Text files of a source: lists, names and rows, in UTF-8 or nearly so."""

from core.datasets.findings import Findings
from core.datasets.source import Source

LONGEST_TEXT = 20_000_000  # bytes


def read_text(source: Source, path: str, findings: Findings) -> str:
    """What a text file says, and nothing, with a finding, where it cannot be read; bytes that are no UTF-8 become replacement characters."""
    try:
        return source.read(path, LONGEST_TEXT).decode("utf-8-sig", "replace")
    except (OSError, ValueError) as error:
        findings.error("unreadable", path, f"The file cannot be read ({error}).", "Check that it was copied whole.")
        return ""
