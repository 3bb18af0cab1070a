"""A server in which the bot may just what the invite link of the guide asks for, and Discord's rules for threads, which simcord does not know.

The rules are those of Discord's documentation, "Threads", section "Editing & Deleting Threads", and "Permissions":
https://discord.com/developers/docs/topics/threads, https://discord.com/developers/docs/topics/permissions.
"""

import re
from pathlib import Path
from typing import Any

import discord
import pytest
from simcord.builders import GuildHandle
from simcord.env import Env
from simcord.http.router import RequestContext

GUIDE = Path(__file__).parents[2] / "docs" / "discord.md"
MEMBERS = discord.Permissions(
    view_channel=True, send_messages=True, send_messages_in_threads=True, read_message_history=True, attach_files=True, use_application_commands=True
)  # fmt: skip
OWN = {"name", "archived", "auto_archive_duration"}  # of a thread: who opened it may change these


def invited() -> discord.Permissions:
    """What the invite link of the guide asks for."""
    link = re.search(r"&permissions=(\d+)", GUIDE.read_text())
    assert link is not None
    return discord.Permissions(int(link[1]))


def grant(env: Env, guild: GuildHandle, permissions: discord.Permissions) -> None:
    """Give the bot these permissions and no others; members have theirs by a role of their own, so that nothing comes from @everyone."""
    backend = env.backend
    backend.edit_role(guild.id, guild.id, {"permissions": 0})
    managed = next(role for role in backend.get_guild(guild.id).roles.values() if role.managed)
    backend.edit_role(guild.id, managed.id, {"permissions": permissions.value})


def apply_rules_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who opened a thread may rename it and put it into the archive or take it out; deleting it needs Manage Threads. Files need Attach Files."""
    required = RequestContext.require_channel_permissions

    def require(context: RequestContext, channel_id: int, *names: str) -> Any:
        channel = context.backend.get_channel(channel_id)
        if channel.is_thread and names == ("manage_channels",):
            changed = set(context.json or {})
            own = channel.owner_id == context.backend.bot_user.id and changed <= OWN
            wakes = context.json == {"archived": False} and not channel.thread_metadata.locked
            names = ("send_messages_in_threads",) if context.method == "PATCH" and (own or wakes) else ("manage_threads",)
        if context.method == "POST" and context.path.endswith("/messages") and context.files and channel.guild_id is not None:
            names = (*names, "attach_files")
        return required(context, channel_id, *names)

    monkeypatch.setattr(RequestContext, "require_channel_permissions", require)
