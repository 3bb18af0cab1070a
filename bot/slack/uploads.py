"""Files that people send: fetched from Slack into a folder that is gone afterwards."""

import contextlib
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import quote, urlsplit

from slack_sdk import WebClient

from bot.desk.gathering import is_archive_name
from bot.desk.reply import Upload
from bot.slack.text import Json
from core.datasets.reading import may_be_dicom
from core.datasets.source import has_image_suffix
from core.errors import InvalidInputError, UnavailableError
from core.settings import Settings

UNKNOWN_TYPES = ("", "application/octet-stream", "application/dicom")  # what Slack says of a file that it does not know
CHUNK = 1 << 20
TIMEOUT_SECONDS = 60


def is_archive(file: Json) -> bool:
    """Whether a file is one that a dataset can be in, by its name."""
    return is_archive_name(name_of(file))


def is_image(file: Json) -> bool:
    """Whether a file is an image, by its type or its name; one without a suffix may be, because so scanners name DICOM files."""
    mimetype, name = str(file.get("mimetype") or ""), name_of(file)
    return mimetype.startswith("image/") or has_image_suffix(name) or (mimetype in UNKNOWN_TYPES and may_be_dicom(name))


def name_of(file: Json) -> str:
    """The file's name, without any folders."""
    return PurePosixPath(str(file.get("name") or file.get("title") or "file").replace("\\", "/")).name[:200] or "file"


@contextlib.contextmanager
def fetched(client: WebClient, settings: Settings, files: Sequence[Json]) -> Iterator[tuple[Upload, ...]]:
    """The files as uploads, while the block runs.

    Raises:
        InvalidInputError: for one that is too large, or that the bot may not see.
        UnavailableError: when Slack does not give it.
    """
    with tempfile.TemporaryDirectory(prefix="slack-upload-", ignore_cleanup_errors=True) as folder:
        yield tuple(_fetch(client, settings, file, Path(folder) / str(number)) for number, file in enumerate(files))


def _fetch(client: WebClient, settings: Settings, file: Json, path: Path) -> Upload:
    if not file.get("url_private_download") and not file.get("url_private"):
        file = client.files_info(file=str(file.get("id") or "")).get("file") or {}
    # Slack quotes names in addresses; one that is quoted already stays as it is.
    url = quote(str(file.get("url_private_download") or file.get("url_private") or ""), safe=":/?&=%#+,;~@!$'()*")
    name = name_of(file)
    if not _is_slacks(url, client.base_url):
        raise InvalidInputError(f"“{name}” does not lie at Slack, so it cannot be fetched.", "Upload the file itself.")
    most = settings.max_archive_bytes
    if int(file.get("size") or 0) > most:
        raise InvalidInputError(f"“{name}” is larger than {most:,} bytes.", "Send a smaller file, or split it.")
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {client.token}"})  # noqa: S310  its scheme has been looked at
    got = 0
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as source, path.open("wb") as target:  # noqa: S310
            # Without the scope files:read Slack sends its page for logging in, with the status 200.
            if (source.headers.get_content_type() == "text/html") and not name.lower().endswith((".html", ".htm")):
                raise UnavailableError(
                    f"Slack did not give “{name}” to the bot.", "Its scope files:read may be missing: see docs/slack.md."
                )
            while chunk := source.read(CHUNK):
                got += len(chunk)
                if got > most:
                    raise InvalidInputError(f"“{name}” is larger than {most:,} bytes.", "Send a smaller file, or split it.")
                target.write(chunk)
    except (urllib.error.URLError, TimeoutError, OSError) as error:
        raise UnavailableError(f"Slack did not give “{name}”: {error}.", "Send it again.") from error
    return Upload(name, path)


def _is_slacks(url: str, base_url: str) -> bool:
    """Whether the token may be shown to that address: Slack's own hosts, or the one that the Web API is at."""
    parts, api = urlsplit(url), urlsplit(base_url)
    if (parts.scheme, parts.netloc) == (api.scheme, api.netloc):
        return True
    host = parts.hostname or ""
    return parts.scheme == "https" and (host == "slack.com" or host.endswith((".slack.com", ".slack-gov.com", ".slack-edge.com")))
