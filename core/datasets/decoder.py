"""The process that decodes images for an import: batches in on standard input, what became of them out on standard output.

A process of its own, because Python threads take turns; one of ours and not of `multiprocessing`, because that would first import
again whatever program asked for the import.
"""

import hashlib
import json
import os
import pickle
import signal
import sys
from dataclasses import dataclass, replace

from core.datasets import image_store
from core.datasets.deriving import classes_in
from core.datasets.finishing import Outcome, finish
from core.datasets.parsed import ParsedImage, ParsedSet
from core.datasets.source import Source
from core.errors import StationmasterError
from core.storage import Storage


@dataclass(frozen=True)
class Workbench:
    """What all images of one import have in common. Images are stored under `folder`."""

    source: Source
    sets: list[ParsedSet]
    max_image_pixels: int
    storage_url: str
    folder: str


def decode(bench: Workbench, storage: Storage, index: int, image: ParsedImage) -> Outcome:
    """Finish the image of number `index` and store what comes of it; the outcome then holds keys instead of bytes.

    Raises:
        UnavailableError: when the storage cannot be written.
    """
    outcome = finish(bench.source, image, bench.sets, bench.max_image_pixels)
    for number, one in enumerate(outcome.finished):
        frame = f"-{number}" if len(outcome.finished) > 1 else ""
        one.key = f"{bench.folder}/{index // 1000:04d}/{index:07d}{frame}{one.stored.suffix}"
        image_store.write(storage, one.key, one.stored.data)
        one.size = len(one.stored.data)
        one.texts = [None if value is None else json.dumps(value) for value in one.values]
        one.classes = [
            [] if value is None else classes_in(value, parsed_set.kind) for value, parsed_set in zip(one.values, bench.sets, strict=True)
        ]
        listed = ", ".join("null" if text is None else text for text in one.texts)
        one.digest = hashlib.sha256(f"{one.stored.sha256} [{listed}]".encode()).digest()
        # Whoever asked for this wants to store it, not to look at it: what is left is quick to hand over.
        one.values = []
        one.stored = replace(one.stored, data=b"")
    return outcome


def main() -> None:
    """Serve until standard input ends, as it does when the import ends or is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the import's to handle
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever libraries print must not come between the answers
    bench: Workbench = pickle.load(sys.stdin.buffer)  # noqa: S301  # from the import that started this process
    storage = Storage(bench.storage_url)
    while True:
        try:
            batch: list[tuple[int, ParsedImage]] = pickle.load(sys.stdin.buffer)  # noqa: S301
        except EOFError:
            return
        answer: list[Outcome] | StationmasterError
        try:
            answer = [decode(bench, storage, index, image) for index, image in batch]
        except StationmasterError as error:
            answer = error
        pickle.dump(answer, answers, pickle.HIGHEST_PROTOCOL)
        answers.flush()


if __name__ == "__main__":
    main()
