"""What commands print: facts on standard output (tables for people, one JSON document for scripts), all else on standard error."""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from core.errors import InvalidInputError, StationmasterError

PIPED_WIDTH = 1000  # characters; whoever reads a file or a pipe wants whole names, only a window has an edge

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

# What `--annotation-set` was called in `task create` and `model test`; scripts go on calling it so.
OldAnnotationsOption = Annotated[str, typer.Option("--annotations", hidden=True)]

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def print_json(value: Any) -> None:
    """Write one JSON document to standard output."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2, default=str) + "\n")
    sys.stdout.flush()


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
    """Write rows as a table for people, or the sentence `empty` where there are none."""
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    count = 0
    for row in rows:
        table.add_row(*(escape(str(cell)) for cell in row))
        count += 1
    if count:
        (out if out.is_terminal else Console(highlight=False, width=PIPED_WIDTH)).print(table)
    else:
        say(empty)


def print_facts(facts: Iterable[tuple[str, object]]) -> None:
    """Write name–value lines for people."""
    rows = [(name, str(value)) for name, value in facts]
    widest = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:  # not as a table: a path must come whole, to be copied
        out.print(f"[dim]{escape(name.ljust(widest))}[/]  {escape(value)}", soft_wrap=True)


def confirm_deletion(what: str, *, yes: bool) -> None:
    """Have DELETE typed, unless `yes`.

    Raises:
        InvalidInputError: when something else was typed, or nobody can be asked.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise InvalidInputError("Deleting asks to type DELETE, and nobody can be asked here.", "Give --yes in scripts.")
    if typer.prompt(f"Type DELETE to delete {what}", err=True).strip() != "DELETE":
        raise InvalidInputError("Nothing was deleted.", "Type DELETE in capitals to delete.")


def say(text: str) -> None:
    """Tell the person something that is not a fact: on standard error."""
    err.print(escape(text), soft_wrap=not err.is_terminal)


def complain(error: StationmasterError) -> None:
    """Print an error and its remedy on standard error."""
    err.print(f"[bold red]Error:[/] {escape(error.what)}", soft_wrap=True)
    if error.remedy:
        err.print(escape(error.remedy), soft_wrap=True)
