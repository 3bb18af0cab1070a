"""Which chat faces there are, which are configured, and running them with the notifier in one process.

A face plugs in by one entry in `FACES` and a module with `start(settings, database, storage) -> RunningFace`.
"""

import importlib
import importlib.util
import logging
import threading
from dataclasses import dataclass
from typing import Protocol

from pydantic import SecretStr

from bot.links import Links
from bot.notifier import Notifier, Poster
from bot.workforce import TrainingWorkers
from core.db.session import Database
from core.errors import InvalidInputError, UnavailableError
from core.settings import Settings
from core.storage import Storage
from core.tasks.duties import Duties

logger = logging.getLogger(__name__)

WATCH_SECONDS = 1.0


class RunningFace(Protocol):
    """A face that is connected to its platform."""

    poster: Poster

    def alive(self) -> bool:
        """Whether it still works; a face that reconnects by itself does while it tries."""
        ...

    def stop(self) -> None:
        """Disconnect. Never raises."""
        ...


@dataclass(frozen=True)
class Face:
    """A chat platform: where its code is, and the settings that must all be given for it."""

    name: str
    title: str
    module: str
    tokens: tuple[str, ...]
    instead: tuple[tuple[str, ...], ...] = ()  # other sets of settings that do as well, each whole

    def missing(self, settings: Settings) -> tuple[str, ...]:
        """The environment variables that are not set."""
        if any(all(_secret(settings, token) for token in tokens) for tokens in self.instead):
            return ()
        return tuple(f"STATIONMASTER_{token.upper()}" for token in self.tokens if not _secret(settings, token))

    def configured(self, settings: Settings) -> bool:
        """Whether the operator wants it: at least one token is given."""
        return any(_secret(settings, token) for token in {*self.tokens, *(token for tokens in self.instead for token in tokens)})

    def installed(self) -> bool:
        """Whether this version has the face."""
        try:
            return importlib.util.find_spec(self.module) is not None
        except ModuleNotFoundError:
            return False


# Without an app token Slack's requests come over HTTP: for one team, or for all that install the app.
SLACK_OVER_HTTP = (("slack_bot_token", "slack_signing_secret"), ("slack_client_id", "slack_client_secret", "slack_signing_secret"))

FACES: tuple[Face, ...] = (
    Face("slack", "Slack", "bot.slack.app", ("slack_bot_token", "slack_app_token"), SLACK_OVER_HTTP),
    Face("discord", "Discord", "bot.discord.app", ("discord_token",)),
)


def configured_faces(settings: Settings) -> tuple[Face, ...]:
    """The faces to run.

    Raises:
        InvalidInputError: when a face is configured by half.
        UnavailableError: when this version does not have a face that is configured.
    """
    faces = tuple(face for face in FACES if face.configured(settings))
    for face in faces:
        if missing := face.missing(settings):
            raise InvalidInputError(f"{face.title} is configured by half: {', '.join(missing)} is not set.", "Set it, or remove the other.")
        if not face.installed():
            raise UnavailableError(
                f"{face.title} is configured, but this version has no {face.title} face.", f"Unset its tokens: {_names(face)}."
            )
    return faces


def run_faces(settings: Settings, database: Database, storage: Storage, stop: threading.Event) -> None:
    """Run all configured faces, the notifier and the periodic duties until `stop` is set.

    Raises:
        InvalidInputError: when no face is configured, or one by half.
        UnavailableError: when a face cannot connect, or ends by itself.
    """
    faces = configured_faces(settings)
    if not faces:
        wanted = " or ".join(f"{face.title} ({_names(face)})" for face in FACES)
        raise UnavailableError("No chat is configured.", f"Set the tokens of {wanted}; `stationmaster chat` needs none.")
    links = Links.of(settings)
    running: list[tuple[Face, RunningFace]] = []
    ticking: threading.Thread | None = None
    duties = Duties(settings, database)
    ended = threading.Event()
    try:
        for face in faces:
            running.append((face, importlib.import_module(face.module).start(settings, database, storage)))
            logger.info("%s is connected", face.title)
        notifier = Notifier(database, storage, tuple(face.poster for _, face in running), TrainingWorkers(settings), links)
        ticking = threading.Thread(target=notifier.run, args=(ended,), name="notifier")
        ticking.start()
        duties.start()
        while not stop.wait(WATCH_SECONDS):
            for face, connection in running:
                if not connection.alive():
                    raise UnavailableError(f"{face.title} ended by itself.", "The log above says why.")
            if not ticking.is_alive():
                raise UnavailableError("The notifier ended by itself.", "The log above says why.")
    finally:
        ended.set()
        duties.stop()
        for _, connection in running:
            connection.stop()
        if ticking is not None:
            ticking.join()


def _names(face: Face) -> str:
    return ", ".join(f"STATIONMASTER_{token.upper()}" for token in face.tokens)


def _secret(settings: Settings, name: str) -> str:
    value: SecretStr | str = getattr(settings, name)
    return value if isinstance(value, str) else value.get_secret_value()
