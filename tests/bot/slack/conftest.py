"""Tests of this folder talk to a bot that is connected to a local Slack."""

from slack_bot import grace_at_slack, person, root, running, slack, slack_settings, start_bot

__all__ = ["grace_at_slack", "person", "root", "running", "slack", "slack_settings", "start_bot"]
