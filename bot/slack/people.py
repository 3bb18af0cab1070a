"""From a Slack user to an actor of a workspace; and who is let in at all."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from slack_sdk import WebClient
from slack_sdk.errors import SlackClientError

from bot.slack.caller import FACE, Caller
from core.access import Actor
from core.errors import NotAllowedError
from core.settings import Settings, entries

logger = logging.getLogger(__name__)

REMEMBER_SECONDS = 300.0
DIRECT = "im"  # in the list of channels: direct messages with the bot


class People:
    """Knows names and admins, asked of Slack and remembered for some minutes."""

    def __init__(self, settings: Settings, client_of: Callable[[str], WebClient], *, per_team: bool) -> None:
        self.settings = settings
        self.client_of = client_of
        self.per_team = per_team
        self._admins = entries(settings.slack_admins)
        self._people = entries(settings.slack_people)
        self._channels = entries(settings.slack_channels)
        self._known: dict[tuple[str, str], tuple[float, Actor]] = {}
        self._lock = threading.Lock()

    def refusal(self, caller: Caller) -> str:
        """Why somebody is not let in, empty where they are: the operator's lists, looked at without asking anybody."""
        if self._people and caller.user not in self._people:
            return "This bot works for certain people only, and you are not on its list. Ask the operator (STATIONMASTER_SLACK_PEOPLE)."
        if self._channels and caller.channel and caller.channel not in self._channels and not (caller.direct and DIRECT in self._channels):
            return "This bot works in certain channels only, and this is none of them. Ask the operator (STATIONMASTER_SLACK_CHANNELS)."
        return ""

    def workspace(self, team: str) -> str:
        """Whose data a team sees."""
        return f"{FACE}:{team}" if self.per_team else self.settings.workspace

    def actor(self, caller: Caller) -> Actor:
        """The person acting.

        Raises:
            NotAllowedError: for somebody from another company in a shared channel.
        """
        key = (caller.team, caller.user)
        with self._lock:
            known = self._known.get(key)
        if known is not None and time.monotonic() - known[0] < REMEMBER_SECONDS:
            return known[1]
        user = self._ask(caller)
        if user is None:
            # Slack did not say: by their id they are who they are, but no admin; asked again next time.
            return Actor(self.workspace(caller.team), f"{FACE}:{caller.user}", caller.name or caller.user, caller.user in self._admins)
        if user.get("is_stranger"):
            raise NotAllowedError("You belong to another company's Slack.", "Only members of this one can train here.")
        profile = user.get("profile") or {}
        name = profile.get("display_name") or user.get("real_name") or profile.get("real_name") or user.get("name") or caller.name
        admin = bool(user.get("is_admin") or user.get("is_owner") or user.get("is_primary_owner")) or caller.user in self._admins
        actor = Actor(self.workspace(caller.team), f"{FACE}:{caller.user}", str(name or caller.user), admin)
        with self._lock:
            if len(self._known) > 10_000:
                self._known.clear()
            self._known[key] = (time.monotonic(), actor)
        return actor

    def _ask(self, caller: Caller) -> dict[str, Any] | None:
        try:
            user = self.client_of(caller.team).users_info(user=caller.user).get("user")
        except (SlackClientError, OSError) as error:
            logger.warning("Slack does not say who %s is: %s", caller.user, error)
            return None
        return user if isinstance(user, dict) else None
