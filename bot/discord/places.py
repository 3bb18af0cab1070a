"""Where a conversation is held: a thread of its own, or in place where no thread can be opened."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import discord

from bot.discord.answers import change, patiently
from bot.discord.markdown import one_line
from bot.discord.people import FACE, Interaction, place_of
from bot.discord.render import link_message, note_message
from bot.discord.sheet import Drawn
from core.access import Place
from core.errors import NotAllowedError

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

UNNAMED = "Training with"  # what a thread is called until its training has a name
WEEK_MINUTES = 10080  # the longest that Discord lets a thread be silent before it archives it
MAX_THREAD_NAME = 100


@dataclass(frozen=True)
class Venue:
    """A place, and the thread that was opened for it, None where the conversation is held in place."""

    place: Place
    thread: discord.Thread | None = None
    deletable: bool = False
    takes_files: bool = True

    async def close(self) -> None:
        """Take the thread away again: nothing came of it. Who opened a thread may put it into the archive, but needs a right to delete it."""
        if self.thread is None:
            return
        try:
            if self.deletable:
                await self.thread.delete()
            else:
                await self.thread.edit(archived=True)
        except discord.DiscordException as error:
            logger.info("an empty thread could not be taken away: %s", error)


async def open_venue(interaction: Interaction, title: str) -> Venue:
    """Open a thread for a conversation; threads, direct messages and channels where threads are not allowed serve as they are.

    Raises:
        NotAllowedError: where the bot may not write at all: nobody would ever read how the training goes.
    """
    channel, may = interaction.channel, interaction.app_permissions
    if interaction.guild_id is None:
        return Venue(place_of(interaction))
    if isinstance(channel, discord.TextChannel) and may.view_channel and may.create_public_threads and may.send_messages_in_threads:
        kind = discord.ChannelType.news_thread if channel.is_news() else discord.ChannelType.public_thread
        try:
            thread = await patiently(
                lambda: channel.create_thread(
                    name=one_line(title, MAX_THREAD_NAME),
                    type=kind,
                    auto_archive_duration=WEEK_MINUTES,  # type: ignore[arg-type]
                )
            )
        except discord.HTTPException as error:
            logger.info("no thread can be opened in %s, the conversation is held in place: %s", channel.id, error)
        else:
            await _bring_in(thread, interaction.user)
            return Venue(Place(FACE, str(channel.id), str(thread.id)), thread, may.manage_threads, may.attach_files)
    writes = may.send_messages_in_threads if isinstance(channel, discord.Thread) else may.send_messages
    if not (may.view_channel and writes):
        raise NotAllowedError(
            "I may not write in this channel, so I could not tell how a training goes.",
            "Ask a moderator to let me view it and send messages (and create threads), or write to me directly.",
        )
    return Venue(place_of(interaction))


async def hold(
    interaction: Interaction, title: str, work: Callable[[Venue], Result], draw: Callable[[Venue, Result], Drawn], pointer: str, here: str
) -> None:
    """Open a place, do `work` for it in a thread of the process, show there what `draw` makes of it, and tell the person where it is.

    `pointer` are the words before the way to a thread, `here` those where there is none. Where the work fails nothing is left open.
    """
    venue = await open_venue(interaction, title)
    try:
        done = await asyncio.to_thread(work, venue)
    except BaseException:
        await venue.close()
        raise
    if venue.thread is not None:
        await _show_in(venue, interaction, draw(venue, done))
        await change(interaction, link_message(pointer, venue.thread.id))
    else:
        # First the waiting answer: Discord would take the next message for it, and show it to one person only.
        await change(interaction, note_message(here))
        await _show_in(venue, interaction, draw(venue, done))


async def _show_in(venue: Venue, interaction: Interaction, drawn: Drawn) -> None:
    """Post the conversation's message at its place."""
    thread = venue.thread
    if thread is not None:
        await patiently(lambda: thread.send(view=drawn.view, files=drawn.uploads()))
    else:
        await patiently(lambda: interaction.followup.send(view=drawn.view, files=drawn.uploads(), ephemeral=False))


async def name_after(interaction: Interaction, name: str) -> None:
    """Call the thread of a conversation after its task, unless people have given it a name of their own."""
    thread = interaction.channel
    if not isinstance(thread, discord.Thread) or thread.owner_id != thread.guild.me.id or not thread.name.startswith(UNNAMED):
        return
    try:
        await thread.edit(name=one_line(name, MAX_THREAD_NAME))
    except discord.DiscordException as error:  # names may be changed twice in ten minutes
        logger.info("a thread keeps its name: %s", error)


async def _bring_in(thread: discord.Thread, user: discord.User | discord.Member) -> None:
    try:
        await thread.add_user(user)
    except discord.HTTPException as error:
        logger.info("somebody could not be added to their thread: %s", error)
