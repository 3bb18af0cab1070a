"""Buttons and menus that Discord finds by their custom_id alone, so that they work after a restart and on old messages."""

import re
from typing import Any, Protocol

import discord
from discord import ui

Row = ui.Item[Any]


class Counter(Protocol):
    """Who takes presses: the bot."""

    async def pressed(self, interaction: discord.Interaction) -> None:
        """Take one press of a button or menu."""
        ...


class PressButton(ui.DynamicItem[ui.Button[ui.LayoutView]], template=r"(?s:[wd]\|.*)"):
    """Any button of ours."""

    @classmethod
    async def from_custom_id(cls, interaction: discord.Interaction, item: Row, match: re.Match[str], /) -> "PressButton":
        """The button that was pressed."""
        return cls(ui.Button(custom_id=match.string))

    async def callback(self, interaction: discord.Interaction) -> None:
        """Hand the press over to the bot."""
        await _counter(interaction).pressed(interaction)


class PressMenu(ui.DynamicItem[ui.Select[ui.LayoutView]], template=r"(?s:m[wd]\|.*)"):
    """Any menu of ours; `m` before the custom_id keeps it apart from buttons."""

    @classmethod
    async def from_custom_id(cls, interaction: discord.Interaction, item: Row, match: re.Match[str], /) -> "PressMenu":
        """The menu of which an option was chosen."""
        return cls(ui.Select(custom_id=match.string))

    async def callback(self, interaction: discord.Interaction) -> None:
        """Hand the press over to the bot."""
        await _counter(interaction).pressed(interaction)


def _counter(interaction: discord.Interaction) -> Counter:
    bot: Counter = interaction.client  # type: ignore[assignment]
    return bot
