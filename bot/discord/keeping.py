"""Keeps the threads of trainings out of the archive."""

import asyncio
import logging

import discord
from sqlalchemy import select

from bot.discord.office import Office
from bot.discord.people import FACE
from core.db.tables import Delivery
from core.errors import StationmasterError

logger = logging.getLogger(__name__)


async def keep_open(office: Office, client: discord.Client, thread_id: int) -> None:
    """Take a thread out of the archive again while a training in it has not ended."""
    try:
        if await asyncio.to_thread(_is_awaited, office, str(thread_id)):
            await open_again(client, thread_id)
    except StationmasterError as error:
        logger.warning("it cannot be told whether a thread is still needed: %s", error)
    except discord.DiscordException as error:
        logger.warning("a thread cannot be kept from the archive: %s", error)


async def open_again(client: discord.Client, thread_id: int) -> None:
    """Take a thread out of the archive."""
    thread = client.get_channel(thread_id) or await client.fetch_channel(thread_id)
    if isinstance(thread, discord.Thread):
        await thread.edit(archived=False)


def _is_awaited(office: Office, thread_id: str) -> bool:
    with office.database.read() as session:
        places = session.scalars(select(Delivery.place).where(Delivery.face == FACE, Delivery.done.is_(False))).all()
    return any(place.get("thread") == thread_id for place in places)
