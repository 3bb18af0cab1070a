"""All images of an import through all cores: a bounded number of them in work at a time, outcomes in order."""

import contextlib
import itertools
import os
import pickle
import subprocess
import sys
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

import core
from core.datasets.decoder import Workbench, decode
from core.datasets.findings import Finding
from core.datasets.finishing import Outcome
from core.datasets.parsed import ParsedImage
from core.datasets.source import Source
from core.errors import StationmasterError
from core.host_limits import usable_cores
from core.storage import Storage

_FEWEST = 300  # images; for fewer, starting processes costs more than they save
_MOST_PROCESSES = 8  # each takes some 70 MB; more would wait for the one that writes rows
_BATCH = 8  # images

Batch = list[tuple[int, ParsedImage]]


class Decoders:
    """Processes that decode. They start when this is made, so that they are there when the images are listed; use it as a context.

    Where there are too few images, or one core, or what is read or written lies in this process' memory, it does it all by itself.
    """

    def __init__(self, images: int, source: Source, storage: Storage) -> None:
        useful = images >= _FEWEST and usable_cores() > 1 and source.shared and storage.shared
        self._count = min(usable_cores(), _MOST_PROCESSES) if useful else 0
        self._children: list[_Child] = [_Child() for _ in range(self._count)]
        self._free: SimpleQueue[_Child] = SimpleQueue()

    def __enter__(self) -> "Decoders":
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._children:
            child.end()

    def outcomes(self, bench: Workbench, storage: Storage, images: list[ParsedImage]) -> Generator[Outcome]:
        """Each image's outcome, in order, what can be used of it stored.

        Raises:
            UnavailableError: when the storage cannot be written.
        """
        for child in self._children:
            child.prepare(bench)
            self._free.put(child)

        def work(batch: Batch) -> list[Outcome]:
            if not self._count:
                return [decode(bench, storage, index, image) for index, image in batch]
            child = self._free.get()
            try:
                return child.decode(batch)
            finally:
                self._free.put(child)

        size = _BATCH if self._count else 1
        numbered = enumerate(images)
        batches = iter(lambda: list(itertools.islice(numbered, size)), [])
        workers = self._count or usable_cores()
        pending: deque[Future[list[Outcome]]] = deque()
        with ThreadPoolExecutor(workers, thread_name_prefix="import") as pool:
            try:
                for batch in itertools.islice(batches, workers * 4):
                    pending.append(pool.submit(work, batch))
                while pending:
                    yield from pending.popleft().result()
                    for batch in itertools.islice(batches, 1):
                        pending.append(pool.submit(work, batch))
            finally:
                for future in pending:
                    future.cancel()


class _Child:
    """One decoding process, started anew where an image has ended it."""

    def __init__(self) -> None:
        self._bench = b""
        self._process = self._start()

    @staticmethod
    def _start() -> "subprocess.Popen[bytes]":
        root = str(Path(core.__file__).parent.parent)
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH", ""))))
        return subprocess.Popen(
            [sys.executable, "-m", "core.datasets.decoder"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )

    def prepare(self, bench: Workbench) -> None:
        """Say what all images have in common."""
        self._bench = pickle.dumps(bench, pickle.HIGHEST_PROTOCOL)
        self._send(self._bench)

    def decode(self, batch: Batch) -> list[Outcome]:
        """The outcomes of a batch. An image that ends the process is left out with a finding, like any that is damaged."""
        try:
            return self._ask(batch)
        except (EOFError, BrokenPipeError, pickle.UnpicklingError):
            self._restart()
            if len(batch) > 1:
                return [outcome for one in batch for outcome in self.decode([one])]
            (_, image) = batch[0]
            what = "Decoding the image ended the process that did it: it is damaged, or needs more memory than there is."
            return [Outcome(findings=[Finding("error", "damaged-image", image.path, what, "Save it again, or take it out.")])]

    def _ask(self, batch: Batch) -> list[Outcome]:
        self._send(pickle.dumps(batch, pickle.HIGHEST_PROTOCOL))
        if self._process.stdout is None:
            raise EOFError
        answer: list[Outcome] | StationmasterError = pickle.load(self._process.stdout)  # noqa: S301  # from a process of ours
        if isinstance(answer, StationmasterError):
            raise answer
        return answer

    def _send(self, data: bytes) -> None:
        if self._process.stdin is None:
            raise EOFError
        self._process.stdin.write(data)
        self._process.stdin.flush()

    def _restart(self) -> None:
        self.end()
        self._process = self._start()
        self._send(self._bench)

    def end(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):  # what it was to be told last
                    pipe.close()
