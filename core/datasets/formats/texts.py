"""Text files of a source: lists, names and rows, in UTF-8 or nearly so; and what is said of JSON that is none."""

from core.datasets.findings import Findings
from core.datasets.json_stream import JsonStreamError
from core.datasets.source import Source

LONGEST_TEXT = 20_000_000  # bytes


def read_text(source: Source, path: str, findings: Findings) -> str:
    """What a text file says, and nothing, with a finding, where it cannot be read; bytes that are no UTF-8 become replacement characters."""
    try:
        return source.read(path, LONGEST_TEXT).decode("utf-8-sig", "replace")
    except (OSError, ValueError) as error:
        findings.error("unreadable", path, f"The file cannot be read ({error}).", "Check that it was copied whole.")
        return ""


def unreadable_json(path: str, error: JsonStreamError | OSError) -> str:
    """The sentence that says which JSON file cannot be read, where and why."""
    if isinstance(error, OSError):
        return f"{path} cannot be read: {error}."
    where = path if error.line is None else f"{path}:{error.line}"
    return f"{where} cannot be read as JSON: {error}."
