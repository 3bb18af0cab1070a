"""Images a second of training with all augmentations, over images a second of the same step on one batch that lies ready on the device.

    python benchmarks/training_data_path.py [--network tf_efficientnet_lite0] [--image-size 128] [--images 480] [--batch-size 64] [--rounds 6]
    python benchmarks/training_data_path.py --network resnet50 --image-size 224 --images 20000 --batch-size 256      # on a GPU
    python benchmarks/training_data_path.py --boxes --network faster_rcnn-resnet50 --image-size 640 --batch-size 16  # a detector

The images are JPEGs of 500 × 375, imported and decoded as any. Both kinds of step take turns, in blocks, so that other work on the machine
meets both. Prints one line of JSON; `ratio` is the figure, `cpu_ratio` the same by processor time (of a CPU, on a machine that has other work),
`resident` whether the images lay on the device.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from training_material import EVERYTHING, Bench, Listener, on_device


def measure(run: Any, rounds: int) -> dict[str, Any]:
    """Seconds per image of both."""
    import numpy as np
    import torch
    from torch import nn

    from worker.engine import loop
    from worker.engine.data import batches_of, epoch_order

    def finish() -> None:
        if run.device.is_cuda:
            torch.cuda.synchronize()

    loop.train_mode(run)
    batches = batches_of(run.train_rows[epoch_order(len(run.train_rows), 0, 1)], run.state.batch_size)
    blocks = np.array_split(np.arange(len(batches)), max(1, len(batches) // (64 if run.device.is_cuda else 4)))
    ready = next(iter(run.source.stream(batches[:1])))
    images, geometry = run.augmentation(ready.images, np.random.default_rng(0))
    rows = batches[0]

    def bare_step() -> None:
        with run.autocast():
            outcome = run.objective.training_step(run.network, images, ready.targets, rows, geometry)
        outcome.loss.backward()
        if run.plan.gradient_clip:
            nn.utils.clip_grad_norm_(run.network.parameters(), run.plan.gradient_clip)
        run.optimizer.step()
        run.optimizer.zero_grad(set_to_none=True)

    whole: list[float] = []
    bare: list[float] = []
    busy = [0.0, 0.0]  # processor seconds per image of both
    for number in range(rounds * len(blocks) + 1):
        block = [batches[index] for index in blocks[number % len(blocks)]]
        finish()
        began, busy_began = time.perf_counter(), time.process_time()
        for chosen, batch in zip(block, run.source.stream(block), strict=True):
            loop.one_step(run, lambda batch=batch: batch, chosen, 1)
            run.state.step += 1
        finish()
        middle, busy_middle = time.perf_counter(), time.process_time()
        for _ in block:
            bare_step()
        finish()
        if number:  # the first block pays for allocations and compiled kernels
            busy[0] += (busy_middle - busy_began) / sum(len(chosen) for chosen in block)
            busy[1] += (time.process_time() - busy_middle) / (len(block) * len(rows))
            whole.append((middle - began) / sum(len(chosen) for chosen in block))
            bare.append((time.perf_counter() - middle) / (len(block) * len(rows)))
    return {
        "ratio": round(statistics.median(b / w for b, w in zip(bare, whole, strict=True)), 3),
        "cpu_ratio": round(busy[1] / busy[0], 3),
        "images_per_second": round(1 / statistics.median(whole), 1),
        "bare_images_per_second": round(1 / statistics.median(bare), 1),
        "resident": run.source.resident,
        "device": run.device.name,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", default="tf_efficientnet_lite0")
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--images", type=int, default=480)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--boxes", action="store_true", help="a detector's data")
    parser.add_argument("--task-type", choices=("object-detection", "object-segmentation"), help="instead of labels: scattered digits")
    parser.add_argument(
        "--cache-bytes", type=int, default=0, help="the cache's room; what does not fit is decoded and drawn as it is needed"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="", help="where, if not on the best there is")
    asked = parser.parse_args()
    on_device(asked.device)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["STATIONMASTER_CACHE_BYTES"] = str(asked.cache_bytes)
        bench = Bench(Path(folder), asked.images, asked.boxes, scattered=bool(asked.task_type))
        from worker.engine import training
        from worker.link import Ask

        found: dict[str, Any] = {}

        def instead_of_training(run: Any) -> Ask:
            found.update(measure(run, asked.rounds))
            return Ask.STOP_DISCARD

        training.fit = instead_of_training
        plan = {**EVERYTHING, "image_size": asked.image_size, "batch_size": asked.batch_size}
        bench.train(bench.job(asked.network, task_type=asked.task_type or "", **plan), Listener())
    print(json.dumps({"benchmark": "training_data_path", "network": asked.network, "image_size": asked.image_size, **found}))


if __name__ == "__main__":
    main()
