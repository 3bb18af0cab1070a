"""Answering an interaction: acknowledged first, refused privately, and shown whatever Discord makes of it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import discord

from bot.discord.custom_ids import Control
from bot.discord.people import Interaction
from bot.discord.render import error_message
from bot.discord.sheet import Drawn
from core.errors import StationmasterError, UnavailableError

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

UNKNOWN_MESSAGE, UNKNOWN_WEBHOOK, TOKEN_EXPIRED = 10008, 10015, 50027
ACKNOWLEDGED = 40060
OLD_MESSAGE = 30046  # too many edits of a message over an hour old
PAUSES = (0.5, 1.0, 2.0)  # seconds between tries; a press can wait little longer


async def acknowledge(interaction: Interaction, *, thinking: bool = False) -> bool:
    """Tell Discord that the press has arrived, before any work is done; False when it came too late.

    The person then reads that the interaction failed, so nothing is done: pressing again does it.
    `thinking` shows the presser a new message that waits for the answer. It is private: whether all may see the answer is known only then.
    """
    if interaction.response.is_done():
        return True
    if interaction.message is None:
        thinking = True  # there is nothing else to be shown on
    try:
        await patiently(lambda: interaction.response.defer(ephemeral=True, thinking=thinking))
    except discord.HTTPException as error:
        if error.code == ACKNOWLEDGED:  # an answer of Discord's was lost on its way, and the request sent again
            return True
        logger.warning("a press was not acknowledged in time: %s", error)
        return False
    return True


@asynccontextmanager
async def answering(interaction: Interaction) -> AsyncIterator[None]:
    """Whatever cannot be done is said to the presser alone, in plain words; traces go to the log."""
    try:
        try:
            yield
        except StationmasterError as error:
            await refuse(interaction, error)
        except discord.DiscordException as error:
            logger.warning("Discord did not take an answer: %s", error)
            await refuse(interaction, UnavailableError("Discord did not take the answer.", "Try again; what you did so far is kept."))
        except Exception:
            logger.exception("a press failed")
            await refuse(interaction, UnavailableError("Something went wrong here; the operator finds it in the log.", "Try again."))
    except discord.DiscordException as error:
        logger.warning("Discord did not take a refusal either: %s", error)


async def refuse(interaction: Interaction, error: StationmasterError, *buttons: tuple[Control, str, discord.ButtonStyle]) -> None:
    """Say privately what cannot be done and how to go on."""
    await whisper(interaction, error_message(error, *buttons))


async def whisper(interaction: Interaction, drawn: Drawn) -> None:
    """Say something to the presser alone."""
    await say(interaction, drawn, private=True)


async def say(interaction: Interaction, drawn: Drawn, *, private: bool) -> None:
    """Answer with a message of its own."""
    if interaction.response.is_done():
        await patiently(lambda: interaction.followup.send(view=drawn.view, files=drawn.uploads(), ephemeral=private))
    else:
        await patiently(lambda: interaction.response.send_message(view=drawn.view, files=drawn.uploads(), ephemeral=private))


async def change(interaction: Interaction, drawn: Drawn) -> None:
    """Change the message that was pressed on, or the one that waits for the answer.

    Where Discord lets an old message be edited no more, a fresh one takes its place.
    """
    try:
        await patiently(lambda: interaction.edit_original_response(view=drawn.view, attachments=drawn.uploads()))
    except discord.HTTPException as error:
        if error.code not in (OLD_MESSAGE, UNKNOWN_MESSAGE, UNKNOWN_WEBHOOK, TOKEN_EXPIRED):
            raise
        await _afresh(interaction, drawn, error.code)


async def _afresh(interaction: Interaction, drawn: Drawn, code: int) -> None:
    if code in (UNKNOWN_WEBHOOK, TOKEN_EXPIRED):
        channel = interaction.channel
        if not isinstance(channel, discord.abc.Messageable):
            return
        await patiently(lambda: channel.send(view=drawn.view, files=drawn.uploads()))
        return
    await patiently(lambda: interaction.followup.send(view=drawn.view, files=drawn.uploads()))
    if code == OLD_MESSAGE:
        try:
            await interaction.delete_original_response()
        except discord.HTTPException as error:
            logger.info("an old message stays beside its successor: %s", error)


async def patiently(request: Callable[[], Awaitable[Result]]) -> Result:
    """Send a request again where Discord is busy (429) or unwell (5xx); discord.py has waited as it was told before that."""
    for pause in PAUSES:
        try:
            return await request()
        except discord.HTTPException as error:
            if (error.status != 429 and error.status < 500) or error.code == OLD_MESSAGE:
                raise
        await asyncio.sleep(pause)
    return await request()
