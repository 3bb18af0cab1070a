"""Web clients: one for the installation's own token, or one for each team that has installed the app."""

import threading
from typing import Protocol

from slack_sdk import WebClient
from slack_sdk.http_retry.builtin_handlers import ConnectionErrorRetryHandler, RateLimitErrorRetryHandler

from core.errors import UnavailableError
from core.settings import Settings

TIMEOUT_SECONDS = 30
RATE_LIMIT_RETRIES = 4


class Tokens(Protocol):
    """Where the bot tokens of teams are kept."""

    def token(self, team: str) -> str | None:
        """The team's bot token; None where the app is not installed (any more)."""
        ...


def web_client(settings: Settings, token: str | None = None) -> WebClient:
    """A client that does as a 429 says: it waits as long as it is told, then tries again."""
    return obedient(WebClient(token=token, base_url=settings.slack_api_url.rstrip("/") + "/", timeout=TIMEOUT_SECONDS))


def obedient(client: WebClient) -> WebClient:
    """The client, made to wait where Slack asks it to."""
    if not any(isinstance(handler, RateLimitErrorRetryHandler) for handler in client.retry_handlers):
        client.retry_handlers.append(RateLimitErrorRetryHandler(max_retry_count=RATE_LIMIT_RETRIES))
    if not any(isinstance(handler, ConnectionErrorRetryHandler) for handler in client.retry_handlers):
        client.retry_handlers.append(ConnectionErrorRetryHandler())
    return client


class Clients:
    """The client to speak to a team with."""

    def __init__(self, own: WebClient, tokens: Tokens | None = None) -> None:
        self.own = own
        self.tokens = tokens
        self._of: dict[str, WebClient] = {}
        self._lock = threading.Lock()

    def hasty(self, team: str) -> WebClient:
        """A client of the team's that raises on a 429 instead of waiting in its place: for whoever has others to serve meanwhile."""
        client = self.of(team)
        hasty = WebClient(token=client.token, base_url=client.base_url, timeout=client.timeout, ssl=client.ssl, proxy=client.proxy)
        hasty.retry_handlers.append(ConnectionErrorRetryHandler())
        return hasty

    def of(self, team: str) -> WebClient:
        """The team's client.

        Raises:
            UnavailableError: when the app is not installed there (any more).
        """
        if self.tokens is None:
            return self.own
        token = self.tokens.token(team)
        if token is None:
            raise UnavailableError(f"The app is not installed in the Slack team {team}.", "Somebody has to install it again.")
        with self._lock:
            client = self._of.get(team)
            if client is None or client.token != token:
                own = self.own
                client = WebClient(token=token, base_url=own.base_url, timeout=own.timeout, ssl=own.ssl, proxy=own.proxy)
                self._of[team] = obedient(client)
            return client
