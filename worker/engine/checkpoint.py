"""Checkpoints: everything a job needs to go on at its step as if nothing had happened.

A job's folder holds `state-<generation>.pt`, the complete state, and `best-<generation>-<epoch>.pt`, the weights of the best epoch. A
worker writes only under its own generation: one that has been taken over, and does not know it yet, spoils nothing of its successor's.
Files are read with `weights_only=True`, so a strange file can run nothing.
"""

import io
import logging
import pickle
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from core.errors import BadDataError, UnavailableError
from core.storage import Storage
from worker.waiting import Patience

logger = logging.getLogger(__name__)

_TRIES = 5  # to read what another worker may be writing
FORMAT = 1
_STATE = re.compile(r"/state-(\d+)\.pt$")


@dataclass(frozen=True)
class Best:
    """The weights of a job's best epoch with what was measured then. `weights` are those that were judged, on the host."""

    epoch: int
    score: float
    metrics: dict[str, Any]
    weights: dict[str, torch.Tensor]
    details: dict[str, torch.Tensor]  # what the objective keeps of validation for the report


class CheckpointFolder:
    """The checkpoints of one job, as one generation of it reads and writes them."""

    def __init__(
        self,
        storage: Storage,
        folder: str,
        generation: int,
        patience: Patience,
        fence: Callable[[], object] = lambda: None,
    ) -> None:
        """`fence`, which any thread may call, raises FencedError once the job is another's; `patience` is had with the storage."""
        self._patience, self._fence = patience, fence
        self._closing = threading.Event()
        self._storage = storage
        self._folder = folder
        self._generation = generation
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._copied: Future[None] | None = None
        self.state_seconds = self.best_seconds = 0.0  # that the last writes took; of the state its copying included
        self._pending: tuple[Future[None], Callable[[], None]] | None = None

    def load(self, *, keep: bool = True) -> dict[str, Any] | None:
        """The newest complete state, or None where the job has not begun.

        To `keep` the best weights that it names they are copied under the own generation: another worker, which has been taken over and does
        not know it yet, may delete its own. Waits for a storage that does not answer, or has no room.

        Raises:
            FileNotFoundError: when those weights are gone.
            BadDataError: when a file is damaged.
        """
        return self._patience.until_it_passes(lambda: self._load(keep), "The checkpoint cannot be read")

    def _load(self, keep: bool) -> dict[str, Any] | None:
        for left in reversed(range(_TRIES)):
            state = _newest_state(self._storage, self._folder, self._generation)
            own = self.best_key(state["state"]["best_epoch"]) if state is not None and state["best_key"] else ""
            if state is None or not keep or own == state["best_key"]:
                break
            try:
                self._storage.write(own, self._storage.read(state["best_key"]))
                state["best_key"] = state["state"]["best_key"] = own
                break
            except FileNotFoundError:  # that worker has written another state since
                if not left:
                    raise
        return state

    def best_key(self, epoch: int) -> str:
        """Where the weights of `epoch` would lie."""
        return f"{self._folder}/best-{self._generation}-{epoch}.pt"

    def save(self, state: dict[str, Any], best: Best | None, done: Callable[[], None], copy: Callable[[], None]) -> None:
        """Write a snapshot in the background; `done` is called by `poll` or `drain` once it is safe.

        The thread that writes calls `copy` first, which fills `state` and `best`: what it copies must be left as it is until `await_copied`,
        and those two until the write is over. One write at a time: a second waits for the first.
        """
        self.drain()
        self._copied = self._thread.submit(copy)
        self._pending = (self._thread.submit(self._write, self._copied, state, best), done)

    def await_copied(self) -> None:
        """Wait until what is being saved has been copied, and may change. Raises what the copying raised."""
        if self._copied is not None:
            copied, self._copied = self._copied, None
            copied.result()

    @property
    def writing(self) -> bool:
        """Whether a write is in work, or has not been reported yet."""
        return self._pending is not None

    def poll(self) -> None:
        """Report a finished write, if there is one. Raises what the write raised."""
        if self._pending is not None and self._pending[0].done():
            self.drain()

    def drain(self) -> None:
        """Wait for the write in work, if there is one, and report it. Raises what the write raised."""
        if self._pending is None:
            return
        (future, done), self._pending = self._pending, None
        future.result()
        done()

    def close(self) -> None:
        """Wait for the write in work without reporting it, and let the thread go; what the storage does not take is given up."""
        self._pending = None
        self._closing.set()
        self._thread.shutdown(wait=True)

    def _write(self, copied: Future[None], state: dict[str, Any], best: Best | None) -> None:
        began = time.monotonic()
        copied.result()
        copying = time.monotonic() - began
        write = partial(self._write_files, state, best, copying)
        self._patience.until_it_passes(write, "The checkpoint cannot be written", self._closing.is_set)

    def _write_files(self, state: dict[str, Any], best: Best | None, copying: float) -> None:
        if best is not None:
            mark = time.monotonic()
            weights = {name: tensor.contiguous() for name, tensor in best.weights.items()}
            _save(self._storage, self.best_key(best.epoch), {**vars(best), "weights": weights})
            self.best_seconds = time.monotonic() - mark
        mark = time.monotonic()
        _save(self._storage, f"{self._folder}/state-{self._generation}.pt", {"format": FORMAT, **state})
        self._fence()  # whose job it is by now may need what is older
        self._delete_older(state["best_key"])
        self.state_seconds = copying + time.monotonic() - mark

    def _delete_older(self, best_key: str) -> None:
        """Delete what the new state, which is safe, does not need; of a later generation nothing.

        What cannot be deleted is left to the next write: it must not keep anybody from hearing of an epoch that is safe.
        """
        kept = {best_key, f"{self._folder}/state-{self._generation}.pt"}
        try:
            found = self._storage.list(self._folder)
        except Exception:
            logger.exception("older checkpoints are left in %s", self._folder)
            return
        for key in found:
            match = re.search(r"/(?:state|best)-(\d+)(?:-\d+)?\.pt$", key)
            if match and int(match[1]) <= self._generation and key not in kept:
                try:
                    self._storage.delete(key)
                except Exception:
                    logger.exception("%s is left in the storage", key)


@dataclass(frozen=True)
class Saved:
    """What lies in a job's folder: the newest state, and the best weights it names."""

    state: dict[str, Any]
    best: Best | None


def newest(storage: Storage, folder: str) -> Saved | None:
    """The newest checkpoint of a job, whichever worker has written it; None where the job has not begun."""
    state = _newest_state(storage, folder, None)
    if state is None:
        return None
    return Saved(state, Best(**_read(storage, state["best_key"])) if state["best_key"] else None)


def newest_state(storage: Storage, folder: str, *, tries: int = _TRIES) -> dict[str, Any]:
    """The newest state of another job, which may be in work: a file that goes while it is looked for has a successor.

    Raises:
        UnavailableError: when there is none.
    """
    for _ in range(tries):
        try:
            state = _newest_state(storage, folder, None)
        except FileNotFoundError:
            continue
        if state is not None:
            return state
    raise UnavailableError(f"There is no checkpoint in {folder}.", "Start the task again.")


def _newest_state(storage: Storage, folder: str, generation: int | None) -> dict[str, Any] | None:
    found = sorted((int(match[1]), key) for key in storage.list(folder) if (match := _STATE.search(key)))
    for written_by, key in reversed(found):
        if generation is None or written_by <= generation:
            state = _read(storage, key)
            if state.get("format") == FORMAT:
                return state
    return None


class Copies:
    """Copies of nested state on the host, always into the same memory, so that nothing waits for more than the copying.

    Of a GPU's tensors into pinned memory, at the full speed of its bus. What was copied before is overwritten: it must have been written by then.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[str, ...], torch.Tensor] = {}
        self._stream: torch.cuda.Stream | None = None

    def of(self, value: Any, name: str) -> Any:
        """A copy of `value`, all of whose tensors lie on the host and change no more until the next copy under that name."""
        copied, copy = self.begin(value, name)
        copy()
        return copied

    def begin(self, value: Any, name: str) -> tuple[Any, Callable[[], None]]:
        """What will be a copy of `value`, and what has to be called for it, by any thread; until that has returned no tensor may change.

        Of CUDA's tensors copies are begun at once, beside what the GPU has to do next, and what is called waits for them.
        """
        waiting: list[tuple[torch.Tensor, torch.Tensor]] = []
        if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            copied, event = self._copy(value, (name,), waiting), None
        else:
            self._stream = self._stream or torch.cuda.Stream()  # type: ignore[no-untyped-call]
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                copied = self._copy(value, (name,), waiting)
                event = self._stream.record_event()

        def copy() -> None:
            for kept, tensor in waiting:
                kept.copy_(tensor)
            if event is not None:
                event.synchronize()

        return copied, copy

    def _copy(self, value: Any, path: tuple[str, ...], waiting: list[tuple[torch.Tensor, torch.Tensor]]) -> Any:
        if isinstance(value, torch.Tensor):
            kept = self._kept.get(path)
            if kept is None or kept.shape != value.shape or kept.stride() != value.stride() or kept.dtype != value.dtype:
                # In the same layout: an optimizer's state must lie in memory as its weights do.
                kept = self._kept[path] = torch.empty_like(value, device="cpu", pin_memory=value.is_cuda)
            if value.device.type == "cpu":
                waiting.append((kept, value.detach()))
            else:
                kept.copy_(value.detach(), non_blocking=value.is_cuda)
            return kept
        if isinstance(value, dict):
            return {key: self._copy(item, (*path, str(key)), waiting) for key, item in value.items()}
        if isinstance(value, list):
            return [self._copy(item, (*path, str(number)), waiting) for number, item in enumerate(value)]
        return value


def read_weights_file(data: bytes, name: str) -> dict[str, Any]:
    """What `torch.save` wrote, tensors and plain values only.

    Raises:
        BadDataError: when it is damaged or holds anything else.
    """
    try:
        loaded = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError, ValueError, KeyError) as error:
        raise BadDataError(f"The file {name} is damaged.", "Delete the task and start it again.") from error
    if not isinstance(loaded, dict):
        raise BadDataError(f"The file {name} is not a checkpoint.", "Delete the task and start it again.")
    return loaded


def _read(storage: Storage, key: str) -> dict[str, Any]:
    return read_weights_file(storage.read(key), key)


def _save(storage: Storage, key: str, value: dict[str, Any]) -> None:
    with storage.writing(key) as file:
        torch.save(value, file)
