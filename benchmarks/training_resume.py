"""What a resumed training costs before its first new step, and for how long a checkpoint stops the steps.

    python benchmarks/training_resume.py [--network tf_efficientnet_lite0] [--image-size 128] [--images 400]
    python benchmarks/training_resume.py --network vit_base_patch16_224.none --image-size 224 --batch-size 2 --images 40 --checkpoint-seconds 15
    python benchmarks/training_resume.py --task-type object-detection --network faster_rcnn-resnet50.none --batch-size 2 --images 40
    python benchmarks/training_resume.py --task-type object-segmentation --network unet-resnet101.none --batch-size 2 --images 40

A training is paused within its second epoch, as at the end of a worker, and taken up as the next generation. With `.none` a network starts from
scratch: its checkpoints are as large. Boxes and regions are learnt from the sample's scattered digits. Prints one line of JSON:
`resume_seconds` from the call to the beginning of the first new step (the images are cached, as they are after a restart of a worker),
`checkpoint_milliseconds`, the longest of some checkpoints within an epoch as the loop waits for it, and `epoch_milliseconds`, the same of those
that end an epoch, with the weights of the best one besides.
"""

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from training_material import Bench, Listener, on_device


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", default="tf_efficientnet_lite0")
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--task-type", choices=("single-label", "object-detection", "object-segmentation"), default="single-label")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument(
        "--checkpoint-seconds", type=float, default=4.0, help="between those within an epoch: longer than one takes to write"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="", help="where, if not on the best there is")
    asked = parser.parse_args()
    on_device(asked.device)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), asked.images, scattered=asked.task_type != "single-label")
        from worker.engine import loop

        steps = 0
        begun: list[float] = []  # when steps of the resumed training did
        within: list[float] = []
        stalls: list[float] = []
        real_step, real_save, real_write = loop.one_step, loop.save_within_epoch, loop.write_checkpoint

        def counted(*arguments: Any) -> Any:
            nonlocal steps
            steps += 1
            begun.append(time.perf_counter())
            return real_step(*arguments)

        pausing = False

        def asked_for(_: Listener) -> str:
            nonlocal pausing
            pausing = steps > 1.5 * per_epoch
            return "pause" if pausing else ""

        def timed(times: list[float], save: Any) -> Any:
            def saved(*arguments: Any) -> None:
                started = time.perf_counter()
                save(*arguments)
                if not pausing:  # that of a pause waits for the one before, and no step waits for it
                    times.append(time.perf_counter() - started)

            return saved

        loop.one_step, loop.save_within_epoch = counted, timed(within, real_save)
        loop.write_checkpoint = timed(stalls, real_write)
        plan = {"image_size": asked.image_size, "batch_size": asked.batch_size, "epochs": 2}
        job = bench.job(asked.network, task_type=asked.task_type, **plan)
        per_epoch = -(-round(asked.images * 0.8) // asked.batch_size)
        # Far enough apart that each write is over before the next, as with the usual interval of minutes.
        bench.settings.checkpoint_seconds = asked.checkpoint_seconds
        bench.train(job, Listener(script=asked_for))
        pausing = False
        largest = max(bench.storage.info(key)["size"] for key in bench.storage.list("tasks") if "/state-" in key)
        begun.clear()
        began = time.perf_counter()
        bench.train(replace(job, generation=2), Listener())
        per_epoch = -(-len(json.loads(bench.storage.read(job.split_key))["train"]) // asked.batch_size)
    # Each within an epoch is among all of them, a hair shorter than the whole of it.
    ends = sorted(stalls)
    for seconds in within:
        ends.remove(max(stall for stall in ends if stall <= seconds))
    result = {
        "benchmark": "training_resume",
        "network": asked.network,
        "task_type": asked.task_type,
        "checkpoint_megabytes": round(largest / 1e6),
        "resume_seconds": round(begun[0] - began, 2),
        "steps_done_twice": max(0, steps - 2 * per_epoch),
        "checkpoint_milliseconds": round(1000 * max(within), 1) if within else None,
        "checkpoints": len(within),
        "epoch_milliseconds": round(1000 * max(ends), 1) if ends else None,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
