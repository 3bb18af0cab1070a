"""The typer app `stationmaster`, one module per noun: the face for shells and scripts."""

import errno
import logging
import sys
import traceback
from importlib.metadata import version
from typing import Annotated

import typer

from bot.terminal.commands import chat, dataset, demo, model, service, task, zoo
from bot.terminal.commands.output import complain
from core.clock import now
from core.errors import InvalidInputError, StationmasterError, UnavailableError
from core.settings import Settings

logger = logging.getLogger(__name__)

MORE_SPACE = "Free some space, then try again."

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
    except Exception as error:  # noqa: BLE001 (a fault of ours, or a disk that fails at a place nobody thought of)
        complain(unforeseen(error))
        sys.exit(1)


def unforeseen(error: Exception) -> StationmasterError:
    """What to say of an error that nobody expected; its trace goes to a file of the home, not to the screen."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UnavailableError(
            f"There is no space left on the disk{f' that holds {error.filename}' if error.filename else ''}.", MORE_SPACE
        )
    reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'}"
    log = Settings().home / "logs" / "faults.log"
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as file:
            file.write(f"{now().isoformat()} {' '.join(sys.argv)}\n{''.join(traceback.format_exception(error))}\n")
    except OSError:
        return StationmasterError(f"This should not have happened: {reason}.", "Run `stationmaster doctor`.")
    return StationmasterError(f"This should not have happened: {reason}.", f"Run `stationmaster doctor`; where it happened is in {log}.")
