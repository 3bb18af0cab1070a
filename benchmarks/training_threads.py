"""How torch's threads should wait for each other on a CPU: a training step by the turns that a waiting thread spins before it sleeps. One line of JSON.

    python benchmarks/training_threads.py [--turns 0 4000 1000000]

Seconds of wall time an image, alone on all cores and as one of two trainings that share them, for a feature pyramid on tf_efficientnet_lite0 at
96 px in batches of 4 and tf_efficientnet_lite0 at 48 px in batches of 64 (random weights: time is all that is asked). Each figure is the median of
the steps of a process of its own, because OpenMP reads its settings once. `worker/__init__.py` sets what workers use.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

STEPS = 12
COUNTS = (0, 1_000, 4_000, 10_000, 100_000)


def main() -> None:
    """Measure and print the line, or, as a child, its part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, nargs="+", default=COUNTS)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(_steps()))
        return
    told = {}
    for turns in arguments.turns:
        [alone], together = _run(turns, 1), _run(turns, 2)
        told[turns] = {name: {"alone": alone[name], "two_at_once": sum(one[name] for one in together) / 2} for name in alone}
        print(turns, told[turns], file=sys.stderr, flush=True)
    print(json.dumps({"benchmark": "training_threads", "seconds_an_image": told, "cores": os.cpu_count(), "load": os.getloadavg()}))


def _run(turns: int, processes: int) -> list[dict[str, float]]:
    environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": str(turns)}
    command = [sys.executable, __file__, "--child"]
    children = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
    return [json.loads(child.communicate()[0]) for child in children]


def _steps() -> dict[str, float]:
    import segmentation_models_pytorch as smp
    import timm
    import torch

    from core.host_limits import usable_cores
    from worker.engine.device import keep_freed_memory

    keep_freed_memory()
    torch.set_num_threads(usable_cores())
    pyramid = smp.FPN("tu-tf_efficientnet_lite0", encoder_weights=None, classes=10)
    networks = {
        "fpn, 4 at 96 px": (pyramid, 4, 96),
        "lite0, 64 at 48 px": (timm.create_model("tf_efficientnet_lite0", num_classes=10), 64, 48),
    }
    told = {}
    for name, (network, batch, side) in networks.items():
        network.to(memory_format=torch.channels_last).train()
        optimizer = torch.optim.AdamW(network.parameters(), 1e-4, fused=True)
        images = torch.randn(batch, 3, side, side).to(memory_format=torch.channels_last)
        seconds = []
        for _ in range(STEPS):
            began = time.perf_counter()
            network(images).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            seconds.append(time.perf_counter() - began)
        told[name] = round(sorted(seconds)[STEPS // 2] / batch, 5)
    return told


if __name__ == "__main__":
    main()
