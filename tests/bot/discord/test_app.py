"""Building and running the face without Discord: what needs no network must not ask for it."""

import socket
from pathlib import Path

import aiohttp
import discord
import pytest

from bot.discord.app import create_bot, start
from core.db.session import Database
from core.errors import InvalidInputError, UnavailableError
from core.settings import Settings
from core.storage import Storage


def test_the_bot_is_built_from_settings_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    bot = create_bot(Settings(home=tmp_path / "home", offline=True))
    names = {(command.name, type(command).__name__) for command in bot.tree.walk_commands()}
    assert {"train", "tasks", "datasets", "models", "help"} <= {name for name, _ in names}
    assert bot.tree.get_command("Train on these images", type=discord.AppCommandType.message) is not None
    assert bot.allowed_mentions is not None and not any(
        (bot.allowed_mentions.everyone, bot.allowed_mentions.users, bot.allowed_mentions.roles)
    )


def test_no_privileged_intent_is_asked_for(tmp_path: Path) -> None:
    intents = create_bot(Settings(home=tmp_path / "home", offline=True)).intents
    assert intents.guilds and not (intents.members or intents.presences or intents.message_content or intents.guild_messages)


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (discord.LoginFailure("Improper token has been passed."), "STATIONMASTER_DISCORD_TOKEN"),
        (aiohttp.ClientConnectionError("cannot connect"), "Check the network"),
    ],
)
def test_a_login_that_fails_says_what_to_do(
    failure: Exception, words: str, settings: Settings, database: Database, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(*_: object) -> None:
        raise failure

    monkeypatch.setattr(discord.Client, "login", refused)
    with pytest.raises(UnavailableError) as caught:
        start(settings, database, storage)
    assert words in caught.value.remedy


def test_links_work_both_ways_and_bad_ones_are_named(settings: Settings) -> None:
    from bot.links import Links
    from core.access import Place

    settings.announcement_links = "slack:T1/C1=discord:42, discord:42=discord:43"
    links = Links.of(settings)
    assert links.beside(Place("slack", "T1/C1", "171.2")) == (Place("discord", "42"),)
    assert links.beside(Place("discord", "42", "7")) == (Place("slack", "T1/C1"), Place("discord", "43"))
    for wrong in ("slack:T1/C1", "slack:T1/C1=discord:general", "slack:T1/C1=telex:1", "slack:=discord:42"):
        settings.announcement_links = wrong
        with pytest.raises(InvalidInputError, match="links no two channels"):
            Links.of(settings)


def test_a_channel_for_announcements_that_is_no_id_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="DISCORD_ANNOUNCEMENTS: “#results” is no id"):
        create_bot(Settings(home=tmp_path / "home", offline=True, discord_announcements="#results"))
