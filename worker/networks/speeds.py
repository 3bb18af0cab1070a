"""How fast networks answer for which nobody has published it: `python -m worker.networks.speeds [--minutes 4]`.

One image at a time through a network with random weights, in evaluation and single precision, on one core; counted is processor time, which other
work on the machine disturbs least. What is found is kept in `core/zoo/measured_speeds.json`, network by network, so that a run can be gone on with;
`worker.networks.rebuild` takes it from there. `--again NAME` measures a network anew.
"""

import argparse
import json
import logging
import platform
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch

from core.settings import Settings
from core.zoo import catalogue
from core.zoo.spec import ModelSpec
from worker.networks import build
from worker.networks.rebuild import MEASURED_SPEEDS, published

logger = logging.getLogger(__name__)

HEAVY = 30.0  # GMACs, from which on one run has to do; else the best of three counts
CLASSES = 7


def unpublished() -> list[ModelSpec]:
    """The entries from scratch of the networks whose speed is in no published table, light ones first."""
    known = set(published()["speed"]) | set(published()["inference"])
    return sorted(
        (spec for spec in catalogue.entries() if spec.pretraining == catalogue.NONE and spec.network not in known),
        key=lambda spec: spec.gmacs,
    )


@torch.inference_mode()
def seconds_an_image(spec: ModelSpec, settings: Settings) -> float:
    """Processor seconds of one core for one image at the network's own input size."""
    network = build(spec, spec.task_types[0], CLASSES, settings=settings, image_size=spec.input_size).eval()
    image = torch.rand(1, 3, spec.input_size, spec.input_size)
    if spec.gmacs < HEAVY:
        network(image)
    taken = []
    for _ in range(1 if spec.gmacs >= HEAVY else 3):
        began = time.process_time()
        network(image)
        taken.append(time.process_time() - began)
    return min(taken)


def read() -> dict[str, Any]:
    """What has been measured: `where`, and images a second by network."""
    if not MEASURED_SPEEDS.exists():
        return {"where": "", "images_per_second": {}}
    found: dict[str, Any] = json.loads(MEASURED_SPEEDS.read_text(encoding="utf-8"))
    return found


def write(found: dict[str, Any], path: Path = MEASURED_SPEEDS) -> None:
    """One network a line, so that differences can be read."""
    rows = ",\n".join(f"{json.dumps(name)}: {value}" for name, value in sorted(found["images_per_second"].items()))
    temporary = path.with_suffix(".part")
    temporary.write_text(f'{{"where": {json.dumps(found["where"])},\n"images_per_second": {{\n{rows}\n}}}}\n', encoding="utf-8")
    temporary.replace(path)


def processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def main(arguments: list[str] | None = None) -> int:
    """Measure what is left; says on standard error how much that is."""
    parser = argparse.ArgumentParser(prog="python -m worker.networks.speeds", description="Measure speeds that nobody has published.")
    parser.add_argument("--minutes", type=float, default=60, help="begin nothing after so many minutes")
    parser.add_argument("--again", action="append", default=[], help="a network to measure anew")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    settings = Settings(offline=True)
    found = read()
    found["where"] = f"one core of {processor()}, PyTorch {torch.__version__.partition('+')[0]}"
    left = [spec for spec in unpublished() if spec.network in options.again or spec.network not in found["images_per_second"]]
    began = time.monotonic()
    while left and time.monotonic() - began < options.minutes * 60:
        spec = left.pop(0)
        found["images_per_second"][spec.network] = float(f"{1 / seconds_an_image(spec, settings):.3g}")
        write(found)
    logger.info("%d networks are left", len(left))
    return 0


if __name__ == "__main__":
    sys.exit(main())
