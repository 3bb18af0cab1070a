"""The Slack app: built without network or tokens, connected by Socket Mode, or over HTTP where there is no app token."""

import logging
from collections.abc import Callable
from typing import cast

from slack_bolt import App
from slack_bolt.authorization import AuthorizeResult
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError, SlackClientError

from bot.slack import admission, entries, presses
from bot.slack.clients import Clients, obedient, web_client
from bot.slack.connections import HttpConnection, SocketConnection
from bot.slack.counter import Counter
from bot.slack.installations import DatabaseInstallationStore, forget_removed, oauth_flow
from bot.slack.pictures import error_code
from bot.slack.poster import SlackPoster
from bot.slack.switchboard import Switchboard
from bot.slack.wizard import SlackWizard
from bot.slack.work import ListenerThreads
from core.db.migrate import ensure_current
from core.db.session import Database
from core.errors import InvalidInputError, UnavailableError
from core.settings import Settings
from core.storage import Storage

logger = logging.getLogger(__name__)

LISTENER_THREADS = 16
NOT_INSTALLED = "Stationmaster is not installed in this workspace any more. An admin has to install it again; your data is still there."


def create_app(settings: Settings, *, client: WebClient | None = None) -> App:
    """The whole app with its listeners. Needs neither network nor tokens: those are first used when somebody speaks to it.

    `client` is what it speaks with, for tests and special networks; else one is made from the settings.
    """
    database = Database.of(settings)
    ensure_current(database)
    return build(settings, database, Storage.of(settings), client)[0]


def build(settings: Settings, database: Database, storage: Storage, client: WebClient | None = None) -> tuple[App, Switchboard]:
    """The app and what is behind it."""
    token = settings.slack_bot_token.get_secret_value()
    own = obedient(client) if client is not None else web_client(settings, token or None)
    for_many = bool(settings.slack_client_id)
    installations = DatabaseInstallationStore(database) if for_many else None
    board = Switchboard(settings, database, storage, Clients(own, installations), per_team=for_many or settings.workspace_per_team)
    app = App(
        name="stationmaster",
        client=client or web_client(settings),  # the token comes from `authorize`
        signing_secret=settings.slack_signing_secret.get_secret_value(),
        authorize=_authorize(board.clients),
        token_verification_enabled=False,
        user_facing_authorize_error_message=NOT_INSTALLED,
        listener_executor=ListenerThreads(LISTENER_THREADS, board.work),
    )
    wizard = SlackWizard(board)
    counter = Counter(board, wizard)
    admission.register(app, board)
    presses.register(app, board, wizard, counter)
    if installations is not None:
        forget_removed(app, installations)
        # Bolt takes a flow beside an `authorize` of our own only so.
        app._oauth_flow = oauth_flow(settings, installations, app)
    entries.register(app, board, wizard, counter)  # last: it takes every event that is left
    return app, board


def _authorize(clients: Clients) -> Callable[..., AuthorizeResult]:
    def authorize(enterprise_id: str | None, team_id: str | None) -> AuthorizeResult | None:
        """Whom a request is for: nothing is asked of Slack, so that the acknowledgement waits for nobody."""
        token = clients.own.token if clients.tokens is None else clients.tokens.token(team_id or "")
        if clients.tokens is not None and token is None:
            return None
        return AuthorizeResult(enterprise_id=enterprise_id, team_id=team_id, bot_token=token)

    return cast("Callable[..., AuthorizeResult]", authorize)  # Bolt takes None too, for a team it does not know


class RunningSlack:
    """The face while it is connected."""

    def __init__(self, board: Switchboard, connection: SocketConnection | HttpConnection) -> None:
        self.board = board
        self.connection = connection
        self.poster = SlackPoster(board.clients, board.gallery, board.settings.slack_announcements)

    def alive(self) -> bool:
        """Whether it still works; the connection comes back by itself."""
        return self.connection.alive()

    def stop(self) -> None:
        """Disconnect, and end what was begun. Never raises."""
        try:
            self.connection.close()
        except Exception:  # it is leaving anyway
            logger.warning("the connection to Slack did not close well", exc_info=True)
        self.board.close()


def start(settings: Settings, database: Database, storage: Storage) -> RunningSlack:
    """Connect.

    Raises:
        InvalidInputError: when the settings contradict each other.
        UnavailableError: when Slack does not take a token, or cannot be reached, or the port for its requests is taken.
    """
    app_token = settings.slack_app_token.get_secret_value()
    if app_token and settings.slack_client_id:
        raise InvalidInputError(
            "STATIONMASTER_SLACK_APP_TOKEN and STATIONMASTER_SLACK_CLIENT_ID exclude each other: one is for Socket Mode, the other for HTTP.",
            "Unset the app token where many teams shall install the app, else the client id.",
        )
    app, board = build(settings, database, storage)
    asked = "bot"
    try:
        if board.clients.tokens is None:
            identity = board.clients.own.auth_test()
            logger.info("connected to Slack as %s in %s", identity.get("user"), identity.get("team"))
        if app_token:
            asked = "app"
            return RunningSlack(board, SocketConnection(app, app_token))
    except SlackApiError as error:
        board.close()
        raise UnavailableError(
            f"Slack does not take STATIONMASTER_SLACK_{asked.upper()}_TOKEN: {error_code(error)}.",
            "docs/slack.md says where it comes from.",
        ) from error
    except (SlackClientError, OSError) as error:
        board.close()
        raise UnavailableError(f"Slack cannot be reached: {error}.", "Check the network and STATIONMASTER_SLACK_API_URL.") from error
    try:
        return RunningSlack(board, HttpConnection(app, settings.slack_port))
    except OSError as error:
        board.close()
        raise UnavailableError(
            f"Slack's requests cannot be awaited on port {settings.slack_port}: {error}.", "Free it, or set STATIONMASTER_SLACK_PORT."
        ) from error
