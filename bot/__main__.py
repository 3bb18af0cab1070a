"""`python -m bot` is `stationmaster`: the command line, started without knowing where its script was installed."""

from bot.terminal.commands.app import main

main()
