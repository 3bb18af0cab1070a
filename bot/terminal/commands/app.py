"""The typer app `stationmaster`, one module per noun: the face for shells and scripts."""

import logging
import sys
from importlib.metadata import version
from typing import Annotated

import typer

from bot.terminal.commands import chat, dataset, demo, model, service, task, zoo
from bot.terminal.commands.output import complain
from core.errors import InvalidInputError, StationmasterError

logger = logging.getLogger(__name__)

app = typer.Typer(
    name="stationmaster",
    help="Train computer-vision models without leaving the chat.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(dataset.app, name="dataset")
app.add_typer(zoo.app, name="zoo")
app.add_typer(task.app, name="task")
app.add_typer(model.app, name="model")
service.register(app)
chat.register(app)
demo.register(app)


def _tell_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"stationmaster {version('stationmaster')}\n")
        raise typer.Exit


@app.callback()
def _options(
    tell_version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_tell_version)] = False,
) -> None:
    """Train computer-vision models without leaving the chat."""


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 the thing failed or the data are bad, 2 wrong use."""
    try:
        app()  # ends by itself, with 2 for wrong use
    except InvalidInputError as error:
        complain(error)
        sys.exit(2)
    except StationmasterError as error:
        logger.debug("failed", exc_info=True)
        complain(error)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
