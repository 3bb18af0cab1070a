"""`stationmaster demo`: one whole conversation played in the terminal, with a real queue, a real worker and a real training."""

from typing import Annotated

import typer

from bot.terminal.commands.output import out, say
from bot.terminal.commands.runtime import Runtime
from bot.terminal.demo import Demo
from core.vocabulary import TaskType


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def demo(
        task_type: Annotated[TaskType, typer.Option(help="What the demonstration trains.")] = TaskType.SINGLE_LABEL,
        fast: Annotated[bool, typer.Option("--fast", help="Do not pause for reading.")] = False,
    ) -> None:
        """Play one conversation from /train to the trained model, on sample images that packages carry."""
        Demo(Runtime.load(), out, say, task_type, fast=fast).run()
