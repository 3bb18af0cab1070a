"""Fetching a weights' file: once, resumable, checked by size and hash."""

import hashlib
import http.client
import logging
import re
import shutil
import urllib.error
import urllib.request
from http.client import HTTPMessage
from pathlib import Path
from typing import IO, Any

from filelock import FileLock

from core.errors import UnavailableError
from core.settings import Settings
from core.zoo.spec import ModelSpec

logger = logging.getLogger(__name__)

CHUNK = 1 << 20
TRIES = 4
TIMEOUT_SECONDS = 30


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects within http(s), and keeps what the hub says of the file on the way: `X-Linked-Etag` (its sha256)."""

    def __init__(self) -> None:
        self.sha256 = ""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        if not newurl.startswith(("https://", "http://")):
            raise urllib.error.URLError(f"redirected to {newurl[:80]}")
        self.sha256 = _sha256_in(headers) or self.sha256
        request: urllib.request.Request | None = super().redirect_request(req, fp, code, msg, headers, newurl)
        return request


def _sha256_in(headers: Any) -> str:
    tag = str(headers.get("X-Linked-Etag") or "").strip('"')
    return tag if re.fullmatch("[0-9a-f]{64}", tag) else ""


def download(url: str, path: Path, spec: ModelSpec, settings: Settings) -> None:
    """Fetch `url` into `path`. What a broken attempt has brought is kept beside it (`.part`) and gone on from.

    Raises:
        UnavailableError: when it cannot be reached, ends early again and again, is not the expected file, or the disk is full.
    """
    if not url.startswith(("https://", "http://")):
        raise ValueError(f"not a web address: {url}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            if not path.exists():
                _download(url, path, spec, settings)
    except OSError as error:
        raise UnavailableError(
            f"The weights {spec.name} cannot be stored in {path.parent}: {error.strerror or error}.",
            "Free some space, or mend the folder's rights.",
        ) from error


def _download(url: str, path: Path, spec: ModelSpec, settings: Settings) -> None:
    part = path.with_name(path.name + ".part")
    error: Exception | None = None
    for _ in range(TRIES):
        try:
            sha256 = _fetch(url, part, settings)
            break
        except urllib.error.HTTPError as failure:
            if failure.code == 416:  # what lies there is no beginning of it
                part.unlink(missing_ok=True)
            error = failure
            if failure.code in (401, 403, 404, 410):
                raise _unreachable(url, spec, settings, failure) from failure
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as failure:
            error = failure
        logger.info("downloading %s: %s, trying again", url, error)
    else:
        raise _unreachable(url, spec, settings, error) from error
    with part.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    expected = spec.sha256 or sha256
    if not found.startswith(expected):
        part.unlink()
        raise UnavailableError(
            f"What {url} gave is not the file of {spec.name}: its hash is {found[:12]}…, not {expected[:12]}….",
            "Try again; if it stays so, the source has changed.",
        )
    part.replace(path)


def _fetch(url: str, part: Path, settings: Settings) -> str:
    """Bring `part` to its full length; returns the sha256 that the source states, or nothing."""
    have = part.stat().st_size if part.exists() else 0
    redirects = _Redirects()
    request = urllib.request.Request(url, headers={"User-Agent": "stationmaster", **({"Range": f"bytes={have}-"} if have else {})})  # noqa: S310 - checked by the caller
    with urllib.request.build_opener(redirects).open(request, timeout=TIMEOUT_SECONDS) as response:
        goes_on = response.status == 206 and str(response.headers.get("Content-Range", "")).startswith(f"bytes {have}-")
        length = int(response.headers.get("Content-Length") or 0)
        if shutil.disk_usage(part.parent).free < length + settings.min_free_bytes:
            raise UnavailableError(
                f"There is no space for {length // 1_000_000} MB of weights in {part.parent}.", "Free some space, then try again."
            )
        done = 0
        with part.open("ab" if goes_on else "wb") as file:
            while chunk := response.read(CHUNK):
                file.write(chunk)
                done += len(chunk)
        if length and done < length:
            raise ConnectionError(f"ended after {done} of {length} bytes")
        return redirects.sha256 or _sha256_in(response.headers)


def _unreachable(url: str, spec: ModelSpec, settings: Settings, error: Exception | None) -> UnavailableError:
    reason = f"HTTP {error.code}" if isinstance(error, urllib.error.HTTPError) else str(getattr(error, "reason", error))
    folder = settings.weights_dir or settings.home / "weights"
    return UnavailableError(
        f"The weights {spec.name} cannot be downloaded from {url}: {reason}.",
        f"Put the file into {folder} as {spec.name}.safetensors, set STATIONMASTER_WEIGHTS_DIR, or train from scratch with pre-training none.",
    )
