"""Pictures: uploaded once to each team, waited for until Slack has them ready, and shown as image blocks."""

import hashlib
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePosixPath
from typing import Any

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError, SlackClientError

from bot.slack.render import context
from bot.slack.text import Json
from core.errors import StationmasterError
from core.wizard.screens import Block, Picture

logger = logging.getLogger(__name__)

REMEMBERED = 2000
READY_SECONDS = 20.0
READY_PAUSES = (0.1, 0.2, 0.4, 0.8, 1.0)  # between two looks; the last goes on
RATE_LIMITED = "ratelimited"
RETRY_PAUSES = (0.5, 1.0, 2.0, 4.0)  # a file may be ready by itself before it is ready for a message


class Gallery:
    """Which pictures Slack has, by team and content. `load` gives a picture's bytes."""

    def __init__(self, load: Callable[[Picture], bytes], pause: Callable[[float], None] = time.sleep) -> None:
        self.load = load
        self.pause = pause
        self._files: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._lock = threading.Lock()

    def known(self, team: str, picture: Picture) -> str | None:
        """The picture's file where Slack has it already, else empty: nothing is asked or sent."""
        if picture.preview is None:
            return ""
        return self._find((team, repr(picture.preview)))

    def file(self, client: WebClient, team: str, picture: Picture) -> str | None:
        """The picture's file, uploaded first where that is needed; None where it cannot be had.

        Raises:
            SlackApiError: `ratelimited`, where the client does not wait by itself: it can be had later.
        """
        try:
            if found := self.known(team, picture):
                return found
            data = self.load(picture)
            key = (team, repr(picture.preview) if picture.preview else hashlib.sha256(data).hexdigest())
            if found := self._find(key):
                return found
            file_id = upload_picture(client, picture, data)
        except (OSError, SlackClientError, StationmasterError) as error:
            if isinstance(error, SlackApiError) and error_code(error) == RATE_LIMITED:
                raise
            logger.warning("a picture could not be shown: %s", error)
            return None
        self._wait(client, file_id)
        with self._lock:
            self._files[key] = file_id
            while len(self._files) > REMEMBERED:
                self._files.popitem(last=False)
        return file_id

    def files(self, client: WebClient, team: str, blocks: Iterable[Block]) -> Callable[[Picture], str | None]:
        """All pictures of some blocks, uploaded; to be given to the renderer."""
        found = {block: self.file(client, team, block) for block in blocks if isinstance(block, Picture)}
        return lambda picture: found.get(picture)

    def forget(self, file_ids: set[str]) -> None:
        """Upload these again when they are wanted next: Slack has them no more."""
        with self._lock:
            self._files = OrderedDict((key, file_id) for key, file_id in self._files.items() if file_id not in file_ids)

    def send(self, call: Callable[[list[Json]], Any], blocks: list[Json]) -> Any:
        """Send blocks by `call`; where Slack does not know their files yet, wait a little, and at last go without."""
        wanted = file_ids(blocks)
        for pause in RETRY_PAUSES if wanted else ():
            try:
                return call(blocks)
            except SlackApiError as error:
                if error_code(error) != "invalid_blocks":
                    raise
                logger.info("Slack does not have a picture ready yet")
            self.pause(pause)
        if wanted:
            try:
                return call(blocks)
            except SlackApiError as error:
                if error_code(error) != "invalid_blocks":
                    raise
                logger.warning("Slack never got a picture ready; sent without: %s", error.response.get("response_metadata"))
            self.forget(wanted)
            blocks = without_pictures(blocks)
        return call(blocks)

    def _find(self, key: tuple[str, str]) -> str:
        with self._lock:
            file_id = self._files.get(key, "")
            if file_id:
                self._files.move_to_end(key)
            return file_id

    def _wait(self, client: WebClient, file_id: str) -> None:
        waited = 0.0
        for number in range(1000):
            try:
                file = client.files_info(file=file_id).get("file") or {}
            except SlackApiError as error:
                if error_code(error) != "file_not_found":
                    logger.warning("Slack does not say whether a picture is ready: %s", error_code(error))
                    return
                file = {}
            if file.get("mimetype") or file.get("original_w") or file.get("thumb_64"):
                return
            if waited >= READY_SECONDS:
                logger.warning("a picture was not ready after %.0f s", waited)
                return
            pause = READY_PAUSES[min(number, len(READY_PAUSES) - 1)]
            self.pause(pause)
            waited += pause


def upload_picture(client: WebClient, picture: Picture, data: bytes) -> str:
    """Upload to nobody in particular: the picture is seen where a message shows it. Returns the file's id.

    Its description for screen readers stands in the block that shows it. Slack's own libraries do not agree on how the argument for a file's is
    called (`alt_txt`, `alt_text`), and files with one have been lost (slackapi/python-slack-sdk issue 1818).
    """
    name = "preview.png" if picture.preview else PurePosixPath(picture.key).name
    response = client.files_upload_v2(filename=name, content=data, title=picture.alt[:200])
    return str((response.get("file") or response["files"][0])["id"])


def file_ids(blocks: Sequence[Json]) -> set[str]:
    """The files that blocks show."""
    return {block["slack_file"]["id"] for block in blocks if "slack_file" in block}


def without_pictures(blocks: Sequence[Json]) -> list[Json]:
    """The blocks with words in place of pictures."""
    return [context(f"🖼 {block['alt_text']}: is not available") if "slack_file" in block else block for block in blocks]


def error_code(error: SlackApiError) -> str:
    """Slack's own word for what is wrong."""
    response: Any = error.response
    try:
        return str(response.get("error") or "")
    except (AttributeError, ValueError):
        return ""
