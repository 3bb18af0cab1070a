"""Installations of the app in many teams, in the database: their tokens, and the flow by which a team installs it."""

import re
import threading
import time
from datetime import timedelta
from typing import Any
from urllib.parse import urljoin

from slack_bolt import App, BoltContext
from slack_bolt.oauth import OAuthFlow
from slack_bolt.oauth.oauth_settings import OAuthSettings
from slack_sdk.oauth.installation_store import Bot, Installation, InstallationStore
from slack_sdk.oauth.state_store import OAuthStateStore
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from core.clock import now
from core.db.session import Database
from core.db.tables import SlackInstallation, SlackOAuthState
from core.identifiers import new_id
from core.settings import Settings

SCOPES = (
    "app_mentions:read",
    "channels:history",
    "chat:write",
    "commands",
    "files:read",
    "files:write",
    "groups:history",
    "im:history",
    "im:write",
    "mpim:history",
    "users:read",
)
STATE_SECONDS = 600
REMEMBER_SECONDS = 60.0


class DatabaseInstallationStore(InstallationStore):
    """One row for each team, or organisation. The last installation stands. Tokens are remembered for a minute, but no longer than they are
    valid as far as this process is told.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self._known: dict[str, tuple[float, str | None]] = {}
        self._lock = threading.Lock()

    def token(self, team: str) -> str | None:
        """The bot token of a team, or of an organisation by its id; None where the app is not installed."""
        with self._lock:
            known = self._known.get(team)
        if known is not None and time.monotonic() - known[0] < REMEMBER_SECONDS:
            return known[1]
        with self.database.read() as session:
            row = _of_team(session, None, team) or (session.get(SlackInstallation, (team, "")) if team else None)
            token = row.data.get("bot_token") if row is not None else None
        with self._lock:
            self._known[team] = (time.monotonic(), token)
        return token

    def _forget(self) -> None:
        with self._lock:
            self._known.clear()

    def save(self, installation: Installation) -> None:
        """Keep an installation."""
        team = "" if installation.is_enterprise_install else installation.team_id or ""
        data = {key: value for key, value in installation.to_dict().items() if key != "installed_at"}
        with self.database.write() as session:
            if team:  # it may have become part of an organisation since
                session.execute(delete(SlackInstallation).where(SlackInstallation.team_id == team))
            session.merge(
                SlackInstallation(enterprise_id=installation.enterprise_id or "", team_id=team, data=_json(data), installed_at=now())
            )
        self._forget()

    def find_bot(self, *, enterprise_id: str | None, team_id: str | None, is_enterprise_install: bool | None = False) -> Bot | None:
        """The bot of a team."""
        found = self.find_installation(enterprise_id=enterprise_id, team_id=team_id, is_enterprise_install=is_enterprise_install)
        return found.to_bot() if found is not None else None

    def find_installation(
        self, *, enterprise_id: str | None, team_id: str | None, user_id: str | None = None, is_enterprise_install: bool | None = False
    ) -> Installation | None:
        """The installation of a team, or else that of its organisation."""
        with self.database.read() as session:
            row = None if is_enterprise_install else _of_team(session, enterprise_id, team_id)
            if row is None and enterprise_id:
                row = session.get(SlackInstallation, (enterprise_id, ""))
            return Installation(**row.data) if row is not None else None

    def delete_bot(self, *, enterprise_id: str | None, team_id: str | None) -> None:
        """The team has removed the app."""
        self.delete_all(enterprise_id=enterprise_id, team_id=team_id)

    def delete_installation(self, *, enterprise_id: str | None, team_id: str | None, user_id: str | None = None) -> None:
        """The team has removed the app; what single people have granted is not kept at all."""
        if user_id is None:
            self.delete_all(enterprise_id=enterprise_id, team_id=team_id)

    def delete_all(self, *, enterprise_id: str | None, team_id: str | None) -> None:
        """Forget a team; without one, an organisation."""
        # A team's id is unique by itself, and not every event says which organisation the team belongs to.
        of = (
            SlackInstallation.team_id == team_id
            if team_id
            else (SlackInstallation.enterprise_id == enterprise_id) & (SlackInstallation.team_id == "")
        )
        if team_id or enterprise_id:
            with self.database.write() as session:
                session.execute(delete(SlackInstallation).where(of))
        self._forget()


class DatabaseStateStore(OAuthStateStore):
    """One-time secrets of installations in progress."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def issue(self, *args: Any, **kwargs: Any) -> str:
        """A new secret."""
        state = new_id(40)
        with self.database.write() as session:
            session.execute(delete(SlackOAuthState).where(SlackOAuthState.expires_at < now()))
            session.add(SlackOAuthState(state=state, expires_at=now() + timedelta(seconds=STATE_SECONDS)))
        return state

    def consume(self, state: str) -> bool:
        """Whether the secret was issued, has not expired, and is used for the first time."""
        with self.database.write() as session:
            result = session.execute(delete(SlackOAuthState).where(SlackOAuthState.state == state, SlackOAuthState.expires_at >= now()))
            return bool(getattr(result, "rowcount", 0))


def forget_removed(app: App, store: DatabaseInstallationStore) -> None:
    """Forget the tokens of teams that remove the app."""

    @app.event(re.compile("^(app_uninstalled|tokens_revoked)$"))
    def removed(context: BoltContext, event: dict[str, Any]) -> None:
        if event.get("type") == "app_uninstalled" or (event.get("tokens") or {}).get("bot"):
            store.delete_all(enterprise_id=context.enterprise_id, team_id=context.team_id)


def oauth_flow(settings: Settings, store: DatabaseInstallationStore, app: App) -> OAuthFlow:
    """How a team installs the app: `/slack/install`, Slack's own page, and back to `/slack/oauth_redirect`."""
    return OAuthFlow(
        client=app.client,
        logger=app.logger,
        settings=OAuthSettings(
            client_id=settings.slack_client_id,
            client_secret=settings.slack_client_secret.get_secret_value(),
            scopes=list(SCOPES),
            # The page where people consent stands beside the Web API, at GovSlack too.
            authorization_url=urljoin(settings.slack_api_url.rstrip("/") + "/", "../oauth/v2/authorize"),
            installation_store=store,
            state_store=DatabaseStateStore(store.database),
        ),
    )


def _of_team(session: Session, enterprise_id: str | None, team_id: str | None) -> SlackInstallation | None:
    if not team_id:
        return None
    return session.get(SlackInstallation, (enterprise_id or "", team_id)) or session.scalar(
        select(SlackInstallation).where(SlackInstallation.team_id == team_id)
    )


def _json(data: dict[str, Any]) -> dict[str, Any]:
    return {key: value.timestamp() if hasattr(value, "timestamp") else value for key, value in data.items()}
