"""How fast a label.csv of a million rows is parsed: 200,000 images, five boxes each. Prints one line of JSON; exit code 1 above 10 s.

    python benchmarks/label_csv.py [--rows 1000000]

The images are named, not there to be decoded: what is timed is reading the file into the internal type.
"""

import argparse
import json
import resource
import sys
import tempfile
import time
from pathlib import Path

from core.datasets.findings import Findings
from core.datasets.importing import parse
from core.datasets.source import Member
from core.datasets.sources.folders import FolderSource
from core.settings import Settings

LIMIT_SECONDS = 10.0
PER_IMAGE = 5


def main() -> None:
    """Write the file, read it, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with (folder / "label.csv").open("w") as file:
            for number in range(rows):
                image, box = divmod(number, PER_IMAGE)
                file.write(f"images/{image:07d}.jpg,class {number % 80},{box * 31.5},{box * 20},{100 + box},{50.25}\n")
        settings = Settings(home=folder / "home")
        findings = Findings()
        source = FolderSource(folder, settings, findings)
        source.members |= {path: Member(path, 1) for path in (f"images/{n:07d}.jpg" for n in range(rows // PER_IMAGE))}
        started = time.perf_counter()
        parsed = parse(source, settings, findings)
        seconds = time.perf_counter() - started
    boxes = sum(len(image.values[0]) for image in parsed.images)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        json.dumps(
            {
                "benchmark": "label_csv",
                "rows": rows,
                "boxes": boxes,
                "seconds": round(seconds, 2),
                "limit": LIMIT_SECONDS,
                "memory_mb": round(memory),
            }
        )
    )
    sys.exit(seconds > LIMIT_SECONDS)


if __name__ == "__main__":
    main()
