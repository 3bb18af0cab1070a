"""CSV on the way out: UTF-8, commas, and no cell that a spreadsheet would run as a formula."""

import csv
import io
from collections.abc import Iterable, Sequence


def unescape_cell(text: str) -> str:
    """A cell without the quote that the export puts before what a spreadsheet would run as a formula."""
    return text[1:] if len(text) > 1 and text[0] == "'" and text[1] in "=+-@\t\r'" else text


def escape_cell(text: str) -> str:
    """A cell that no spreadsheet takes for a formula; `unescape_cell` undoes it."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r", "'") else text


def csv_bytes(rows: Iterable[Sequence[object]]) -> bytes:
    """Rows as a CSV file, formulas escaped."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    for row in rows:
        writer.writerow([escape_cell(cell) if isinstance(cell, str) else cell for cell in row])
    return text.getvalue().encode("utf-8", "replace")
