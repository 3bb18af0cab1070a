"""Files in both directions: what is sent fits the server's limit, what people send is kept on disk while it is needed."""

import io
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import discord
from PIL import Image, UnidentifiedImageError

from bot.desk.reply import Attachment, Upload
from bot.discord.markdown import one_line
from bot.discord.sheet import MAX_FILES, NamedFile, safe_name
from core.errors import UnavailableError
from core.storage import Storage

LINK_SECONDS = 7 * 24 * 3600
SMALLEST_SIDE = 64


def size_of(data: bytes) -> tuple[int, int]:
    """Width and height of a picture, in pixels.

    Raises:
        ValueError: when it is no picture.
    """
    try:
        return Image.open(io.BytesIO(data)).size
    except (OSError, UnidentifiedImageError) as error:
        raise ValueError("not a picture") from error


def fitting_picture(data: bytes, limit: int) -> bytes:
    """The picture, or a smaller JPEG of it, in at most `limit` bytes.

    Raises:
        ValueError: when it is no picture, or cannot be made so small.
    """
    if len(data) <= limit:
        return data
    try:
        picture = Image.open(io.BytesIO(data)).convert("RGB")
    except (OSError, UnidentifiedImageError) as error:
        raise ValueError("not a picture") from error
    while min(picture.size) >= SMALLEST_SIDE:
        packed = io.BytesIO()
        picture.save(packed, "JPEG", quality=85)
        if packed.tell() <= limit:
            return packed.getvalue()
        picture = picture.resize((picture.width * 3 // 4, picture.height * 3 // 4))
    raise ValueError("the picture cannot be made small enough")


def fitting_files(attachments: Sequence[Attachment], storage: Storage, limit: int) -> tuple[list[NamedFile], list[str]]:
    """The attachments that together fit `limit` bytes; for each other one a sentence that says where it is. Call it from a thread."""
    files: list[NamedFile] = []
    notes: list[str] = []
    room = limit
    for attachment in attachments:
        size = int(storage.info(attachment.key)["size"]) if attachment.key else len(attachment.data)
        if size <= room and len(files) < MAX_FILES:
            files.append(NamedFile(safe_name(attachment.name), storage.read(attachment.key) if attachment.key else attachment.data))
            room -= size
        else:
            notes.append(
                f"{attachment.name} has {size / 1e6:,.1f} MB, more than can be sent here ({limit / 1e6:,.0f} MB). {_elsewhere(attachment, storage)}"
            )
    return files, notes


def _elsewhere(attachment: Attachment, storage: Storage) -> str:
    """Where a file that is too large can be had: on the host, or behind a link that lasts a week."""
    key = attachment.key
    if not key:
        # Beside what it was made of; the storage's own sweeping of `downloads` is the operator's.
        key = f"downloads/{uuid4().hex[:16]}/{safe_name(attachment.name)}"
        storage.write(key, attachment.data)
    if (local := storage.local_path(key)) is not None:
        return f"It lies on the host at {local}."
    try:
        return f"Download it within a week: {storage.filesystem.sign(f'{storage.root}/{key}', expiration=LINK_SECONDS)}"
    except NotImplementedError:
        return f"It lies in the storage at {storage.root}/{key}."


@asynccontextmanager
async def received(attachments: Sequence[discord.Attachment]) -> AsyncIterator[tuple[Upload, ...]]:
    """What a person sent, in a folder that is gone afterwards.

    Raises:
        UnavailableError: when Discord does not hand a file over.
    """
    with tempfile.TemporaryDirectory(prefix="stationmaster-upload-") as folder:
        uploads = []
        for number, attachment in enumerate(attachments[:MAX_FILES]):
            path = Path(folder) / f"upload-{number}"  # people's names never become paths
            try:
                await attachment.save(path)
            except discord.HTTPException as error:
                raise UnavailableError(f"Discord did not hand over {one_line(attachment.filename, 80)}.", "Send it again.") from error
            uploads.append(Upload(attachment.filename, path))
        yield tuple(uploads)
