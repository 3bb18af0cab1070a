"""The command line `stationmaster`, one module per noun; `app` puts them together."""
