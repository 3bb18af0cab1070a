"""Channels that the operator has linked: what is announced in one is announced in the other too, also across chats."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from bot.posting import ChatError, Poster
from core.access import Place
from core.errors import InvalidInputError
from core.settings import Settings, entries
from core.wizard.screens import Message, Text

logger = logging.getLogger(__name__)


TITLES = {"slack": "Slack", "discord": "Discord"}


@dataclass(frozen=True)
class Links:
    """Pairs of channels; a link works both ways."""

    pairs: tuple[tuple[Place, Place], ...] = ()

    @classmethod
    def of(cls, settings: Settings) -> "Links":
        """The links that the settings name.

        Raises:
            InvalidInputError: for anything but pairs such as `slack:T1/C1=discord:42`.
        """
        pairs = []
        for entry in entries(settings.announcement_links):
            ends = [_channel(end) for end in entry.split("=")]
            if len(ends) != 2 or None in ends:
                raise InvalidInputError(
                    f"STATIONMASTER_ANNOUNCEMENT_LINKS: “{entry[:60]}” links no two channels.",
                    "Write pairs such as slack:T0123/C0456=discord:789, comma-separated; Discord's ids are numbers.",
                )
            pairs.append((ends[0], ends[1]))
        return cls(tuple(pairs))  # type: ignore[arg-type]

    def beside(self, place: Place) -> tuple[Place, ...]:
        """The channels linked to that of a place."""
        here = Place(place.face, place.channel)
        return tuple(dict.fromkeys(other for pair in self.pairs for one, other in (pair, pair[::-1]) if one == here))

    def announce(self, posters: Sequence[Poster], place: Place, message: Message) -> None:
        """Announce in the linked channels what `message` announces; one that cannot be reached holds nothing up."""
        if not message.announcement:
            return
        key = f"{message.key}:announcement"
        for channel in self.beside(place):
            # Where more is told stands in another chat, which a link cannot lead to.
            text = message.announcement if channel.face == place.face else f"{message.announcement} The thread is in {TITLES[place.face]}."
            for poster in (item for item in posters if item.face == channel.face and item.wants(channel)):
                try:
                    if not poster.find(channel, key):
                        poster.post(channel, Message(key, (Text(text),)))
                except ChatError as error:
                    logger.warning("a linked channel of %s was not told: %s", channel.face, error)


NO_LINKS = Links()


def _channel(text: str) -> Place | None:
    face, _, channel = text.strip().partition(":")
    if not channel or face not in TITLES or (face == "discord" and not is_id(channel)):
        return None
    return Place(face, channel)


def is_id(text: str) -> bool:
    """Whether that can be an id of Discord's."""
    return text.isascii() and text.isdigit()
