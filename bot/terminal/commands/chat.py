"""`stationmaster chat`: the conversation by hand."""

import typer

from bot.desk.desk import Desk
from bot.terminal.chat import Chat
from bot.terminal.commands.output import complain, out
from bot.terminal.commands.runtime import Runtime, WorkspaceOption


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def chat(workspace: WorkspaceOption = "") -> None:
        """Talk with the bot in this terminal: train, follow, stop, look around."""
        runtime = Runtime.load(workspace)
        desk = Desk(runtime.database, runtime.storage, runtime.settings, on_start=runtime.wake_queue)
        Chat(runtime.conversation, desk, runtime.actor, out, runtime.training_workers, complain).run()
