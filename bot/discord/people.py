"""From a Discord user to an actor of a workspace; who is let in at all, and who is an admin."""

from collections.abc import Mapping
from typing import Any, cast

import discord

from core.access import Actor, Place
from core.errors import NotAllowedError
from core.settings import Settings, entries

FACE = "discord"
DIRECT = "dm"  # in the list of channels: direct messages with the bot

Interaction = discord.Interaction[discord.Client]


def data_of(interaction: Interaction) -> Mapping[str, Any]:
    """What an interaction brings, as Discord sent it."""
    return cast("Mapping[str, Any]", interaction.data or {})


def place_of(interaction: Interaction) -> Place:
    """Where somebody acts: in a thread its channel too."""
    channel = interaction.channel
    if isinstance(channel, discord.Thread):
        return Place(FACE, str(channel.parent_id), str(channel.id))
    return Place(FACE, str(interaction.channel_id or ""))


def actor_of(interaction: Interaction, settings: Settings) -> Actor:
    """The person acting.

    Raises:
        NotAllowedError: for somebody whom the operator's lists do not let in, or where it cannot be told whose data are meant.
    """
    user = interaction.user
    people, channels = entries(settings.discord_people), entries(settings.discord_channels)
    if people and str(user.id) not in people:
        raise NotAllowedError(
            "This bot works for certain people only, and you are not on its list.", "Ask the operator (STATIONMASTER_DISCORD_PEOPLE)."
        )
    place = place_of(interaction)
    here = {place.channel, place.thread} | ({DIRECT} if interaction.guild_id is None else set())
    if channels and here.isdisjoint(channels):
        raise NotAllowedError(
            "This bot works in certain channels only, and this is none of them.", "Ask the operator (STATIONMASTER_DISCORD_CHANNELS)."
        )
    return Actor(workspace_of(interaction, settings), f"{FACE}:{user.id}", user.display_name, is_admin(interaction, settings))


def workspace_of(interaction: Interaction, settings: Settings) -> str:
    """Whose data somebody sees. Raises NotAllowedError in a direct message where each server has data of its own."""
    if not settings.workspace_per_team:
        return settings.workspace
    if interaction.guild_id is None:
        raise NotAllowedError("In a direct message I cannot tell which server's data you mean.", "Speak to me in a channel of the server.")
    return f"{FACE}:{interaction.guild_id}"


def is_admin(interaction: Interaction, settings: Settings) -> bool:
    """Whether the person may act on what others made: by the server's permissions, by a role, or by the operator's list."""
    user = interaction.user
    if str(user.id) in entries(settings.discord_admins):
        return True
    if not isinstance(user, discord.Member):
        return False
    wanted = entries(settings.discord_admin_roles)
    return interaction.permissions.manage_guild or any(str(role.id) in wanted or role.name in wanted for role in user.roles)
