"""Pre-trained weights: whether they may be used, whether they can be had, where their file lies, and fetching them once.

Looked for in this order: the operator's file, a Python package that carries them, `STATIONMASTER_WEIGHTS_DIR`, the cache under `home`; then
downloaded, unless the host is offline. A file is used only when its hash is the expected one, as far as that is known.
"""

import hashlib
import http.client
import logging
import os
import re
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import resources, util
from pathlib import Path
from urllib.parse import urlsplit

from core.errors import UnavailableError
from core.settings import Settings, entries
from core.zoo.spec import ModelSpec

logger = logging.getLogger(__name__)

ALLOWED_LICENCES = frozenset({"Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause"})
NONE = "none"
HUB_FILES = ("model.safetensors", "pytorch_model.bin", "open_clip_model.safetensors")
PROBE_SECONDS = 2.0
PROBE_KEPT_SECONDS = 300.0

_probed: dict[str, tuple[float, int | None]] = {}
_probe_lock = threading.Lock()
_may_ask = ContextVar("may_ask", default=True)


class UnaskedError(Exception):
    """Within `only_what_is_known`: something depends on what lies at `url`, and that has not been asked lately."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.url = url


@contextmanager
def only_what_is_known() -> Iterator[None]:
    """Within the block no host is asked: what is not known raises `UnaskedError`. For transactions, during which others may have to wait."""
    token = _may_ask.set(False)
    try:
        yield
    finally:
        _may_ask.reset(token)


def ask(url: str) -> None:
    """Ask what lies at `url`; the answer, or that there is none, is known for five minutes."""
    _asked(url)


def allowed(spec: ModelSpec, settings: Settings) -> bool:
    """Whether the licence of the weights is on the allow-list: Apache-2.0, MIT, BSD, and what the operator added."""
    if spec.pretraining == NONE:
        return True
    more = set(entries(settings.allow_licences))
    return spec.licence in ALLOWED_LICENCES or spec.licence in more or "*" in more


def available(spec: ModelSpec, settings: Settings) -> bool:
    """Whether the weights can be had: nothing is needed, a file is at hand, or the hub they lie on can be reached."""
    return Finder(settings).available(spec)


def locate(spec: ModelSpec, settings: Settings) -> Path | None:
    """The file at hand, or None. Nothing is downloaded and no hash computed here: see `obtain`."""
    return Finder(settings).locate(spec)


class Finder:
    """Looks for the weights of many entries: the folders are listed once."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._folders = [(folder, _listing(folder)) for folder in (settings.weights_dir, cache_folder(settings)) if folder is not None]

    def available(self, spec: ModelSpec) -> bool:
        """As the module's `available`."""
        if spec.pretraining == NONE or self.locate(spec) is not None:
            return True
        url = download_url(spec)
        return bool(url) and not self.settings.offline and reachable(url)

    def locate(self, spec: ModelSpec) -> Path | None:
        """As the module's `locate`."""
        kind, _, place = spec.source.partition(":")
        if spec.pretraining == NONE:
            return None
        if kind == "file":
            return _file(Path(place))
        if kind == "package" and (found := _in_package(place)) is not None:
            return found
        for folder, names in self._folders:
            if names:
                for name in file_names(spec):
                    if name in names and (found := _file(folder / name)) is not None:
                        return found
        return None


def _listing(folder: Path) -> frozenset[str]:
    """Names of the files in a folder and in its folders' folders (`timm/resnet18.a1_in1k/model.safetensors`)."""
    try:
        return frozenset(
            path.relative_to(folder).as_posix() for pattern in ("*", "*/*", "*/*/*") for path in folder.glob(pattern) if path.is_file()
        )
    except OSError:
        return frozenset()


def file_names(spec: ModelSpec) -> list[str]:
    """Names under which the weights are looked for in a folder, best first: `network.pretraining.safetensors`, the hub's, the URL's."""
    stems = [spec.name]
    kind, _, place = spec.source.partition(":")
    names = []
    if kind == "hub":
        place, _, named = place.partition("#")
        stems.append(place.rpartition("/")[2])
        names = [f"{folder}/{file}" for folder in (place, place.rpartition("/")[2]) for file in ((named,) if named else HUB_FILES)]
    elif kind in ("http", "https"):
        names = [urlsplit(spec.source).path.rpartition("/")[2]]
    return [f"{stem}{suffix}" for stem in dict.fromkeys(stems) for suffix in (".safetensors", ".pth", ".pt", ".bin")] + names


def cache_folder(settings: Settings) -> Path:
    """Where downloaded weights are kept."""
    return settings.home / "weights"


def download_url(spec: ModelSpec) -> str:
    """Where the weights can be downloaded; empty where they cannot."""
    kind, _, place = spec.source.partition(":")
    if kind == "hub":
        endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
        repository, _, file = place.partition("#")
        return f"{endpoint}/{repository}/resolve/main/{file or HUB_FILES[0]}"
    return spec.source if kind in ("http", "https") else ""


def reachable(url: str) -> bool:
    """Whether the host of `url` answers, through a proxy where one is set; asked once in five minutes a host, and never longer than two seconds."""
    parts = urlsplit(url)
    return _asked(f"{parts.scheme}://{parts.netloc}/") is not None


def confirmed(spec: ModelSpec, settings: Settings) -> bool:
    """As `available`, for one entry that somebody is about to start with: where it must be downloaded, the hub is asked whether it has the very file.

    A hub that answers otherwise than with the file or that it has none (it is overloaded, say) is given the benefit of the doubt.
    """
    finder = Finder(settings)
    if not finder.available(spec):
        return False
    if spec.pretraining == NONE or finder.locate(spec) is not None:
        return True
    return _asked(download_url(spec)) not in (401, 403, 404, 410)


def _asked(url: str) -> int | None:
    """The status that a HEAD request gets, None where nobody answers; kept for five minutes.

    Raises:
        UnaskedError: within `only_what_is_known`, when that is not known.
    """
    known = _known(url)  # without the lock: nobody who knows waits for somebody who asks
    if known is not None:
        return known[1]
    if not _may_ask.get():
        raise UnaskedError(url)
    with _probe_lock:
        known = _known(url)
        if known is not None:
            return known[1]
        answers: list[int | None] = []
        # In a thread, because looking up a name knows no timeout.
        thread = threading.Thread(target=lambda: answers.append(_status(url)), daemon=True)
        thread.start()
        thread.join(PROBE_SECONDS)
        answer = answers[0] if answers else None
        _probed[url] = (time.monotonic(), answer)
        return answer


def _known(url: str) -> tuple[float, int | None] | None:
    """When `url` was asked and the answer, if that is not too long ago."""
    known = _probed.get(url)
    return known if known is not None and time.monotonic() - known[0] < PROBE_KEPT_SECONDS else None


def _status(url: str) -> int | None:
    import urllib.error
    import urllib.request  # takes longer to import than all else here, and most processes never ask

    if not url.startswith(("https://", "http://")):
        return None
    request = urllib.request.Request(url, method="HEAD", headers={"User-Agent": "stationmaster"})  # noqa: S310 - checked above
    try:
        with urllib.request.build_opener().open(request, timeout=PROBE_SECONDS) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code
    except (OSError, http.client.HTTPException, ValueError):
        return None


def obtain(spec: ModelSpec, settings: Settings) -> Path:
    """The weights' file, checked, downloaded first where it has to be.

    Raises:
        UnavailableError: when it cannot be had or is not the right file; the remedy says where to put it.
    """
    from core.zoo.download import download  # opens connections: kept out of what only looks

    path = locate(spec, settings)
    if path is None:
        url = download_url(spec)
        if not url or settings.offline:
            raise missing(spec, settings)
        path = cache_folder(settings) / f"{spec.name}{'.safetensors' if url.endswith('.safetensors') else '.pth'}"
        download(url, path, spec, settings)
    check(path, spec)
    return path


def lacking(specs: Iterable[ModelSpec], settings: Settings) -> list[ModelSpec]:
    """Of a network's entries those with a pre-training that is allowed, where the weights of none can be had; else none.

    Then the network learns from scratch unless somebody fetches one.
    """
    finder = Finder(settings)
    having = [spec for spec in specs if spec.pretraining != NONE and allowed(spec, settings)]
    return [] if any(finder.available(spec) for spec in having) else having


def lacking_text(lacked: list[ModelSpec]) -> str:
    """What it means for a training that the weights of these entries, all that a network has, cannot be had."""
    those = "Its pre-training is not" if len(lacked) == 1 else f"None of its {len(lacked)} pre-trainings is"
    return f"{those} at hand here: it learns from scratch, which takes longer and many more images."


def missing(spec: ModelSpec, settings: Settings) -> UnavailableError:
    """The answer to somebody who chose weights that are not at hand."""
    return UnavailableError(
        f"The weights {spec.name} are not at hand" + (", and this installation is offline." if settings.offline else "."),
        how_to_get(spec, settings) + ", or train from scratch with pre-training none.",
    )


def how_to_get(spec: ModelSpec, settings: Settings) -> str:
    """What brings the weights here, as the beginning of a sentence."""
    if spec.source.startswith("package:"):
        return f"Install the Python package {spec.source.partition(':')[2]}"
    folder = settings.weights_dir or cache_folder(settings)
    return f"Put the file into {folder} as {file_names(spec)[0]} (it lies at {spec.source})"


def check(path: Path, spec: ModelSpec) -> None:
    """Compare the file's hash with the expected one, once for each state of the file.

    Raises:
        UnavailableError: when they differ.
    """
    if not spec.sha256:
        return
    state = path.stat()
    if digest(str(path), state.st_mtime_ns, state.st_size).startswith(spec.sha256):
        return
    raise UnavailableError(f"{path} is damaged or another file: its hash is not that of {spec.name}.", "Delete it and fetch it again.")


_digests: dict[tuple[str, int, int], str] = {}


def digest(path: str, changed: int, size: int) -> str:
    """The file's sha256, computed once for each time of change."""
    if (path, changed, size) not in _digests:
        with Path(path).open("rb") as file:
            _digests[path, changed, size] = hashlib.file_digest(file, "sha256").hexdigest()
    return _digests[path, changed, size]


def _file(path: Path) -> Path | None:
    try:
        return path if path.is_file() and path.stat().st_size > 0 else None
    except OSError:
        return None


def _in_package(package: str) -> Path | None:
    module = re.sub(r"[^a-z0-9]+", "_", package.lower())
    if util.find_spec(module) is None:
        return None
    root = Path(str(resources.files(module)))
    return next((file for suffix in ("*.safetensors", "*.pth", "*.pt") for file in sorted(root.rglob(suffix))), None)
