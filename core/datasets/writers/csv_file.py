"""CSV on the way out: UTF-8, commas, and no cell that a spreadsheet would run as a formula."""

import csv
import io
from collections.abc import Iterable, Sequence

from core.datasets.formats.label_csv import escape_cell


def csv_bytes(rows: Iterable[Sequence[object]]) -> bytes:
    """Rows as a CSV file."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    for row in rows:
        writer.writerow([escape_cell(cell) if isinstance(cell, str) else cell for cell in row])
    return text.getvalue().encode()
