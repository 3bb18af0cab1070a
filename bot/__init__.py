"""The faces: Slack, Discord, terminal and command line. Knows the core; never the worker, never torch."""
