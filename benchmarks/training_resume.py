"""What a resumed training costs before its first new step, and for how long a checkpoint stops the steps.

    python benchmarks/training_resume.py [--network tf_efficientnet_lite0] [--image-size 128] [--images 400]
    python benchmarks/training_resume.py --network vit_base_patch16_224.none --image-size 224 --batch-size 2 --images 40 --checkpoint-seconds 15
    python benchmarks/training_resume.py --task-type object-detection --network faster_rcnn-resnet50.none --batch-size 2 --images 40
    python benchmarks/training_resume.py --task-type object-segmentation --network unet-resnet101.none --batch-size 2 --images 40

A training is paused within its second epoch, as at the end of a worker, and taken up as the next generation. With `.none` a network starts from
scratch: its checkpoints are as large. Boxes and regions are learnt from the sample's scattered digits. Prints one line of JSON:
`resume_seconds` from the call to the beginning of the first new step (the images are cached, as they are after a restart of a worker),
`checkpoint_milliseconds`, the longest of some checkpoints within an epoch as the loop waits for it: to begin the copying, and for its end before
the weights change; `epoch_milliseconds`, the same of those that end an epoch, with the best one's weights besides; and `step_milliseconds`, the
median of steps without a checkpoint, `saving_step_milliseconds` of those with one within an epoch, the waits and the copying beside them included.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
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
        from worker.engine.checkpoint import CheckpointFolder

        steps = 0
        begun: list[float] = []  # when steps of the resumed training did
        durations: list[float] = []  # of steps, with the saving before each
        within: dict[int, float] = {}  # for so many seconds the step of that number waited for a checkpoint
        ends: dict[int, float] = {}  # and for that of an epoch's end
        real_step, real_save, real_write, real_await = (
            loop.one_step,
            loop.save_within_epoch,
            loop.write_checkpoint,
            CheckpointFolder.await_copied,
        )

        def counted(*arguments: Any) -> Any:
            nonlocal steps
            started, saving = time.perf_counter(), within.get(steps, 0.0)
            begun.append(started)
            outcome = real_step(*arguments)
            float(outcome.loss)  # a GPU has done it
            durations.append(time.perf_counter() - started + saving)
            steps += 1
            return outcome

        pausing = False

        def asked_for(_: Listener) -> str:
            nonlocal pausing
            pausing = steps > 1.5 * per_epoch
            return "pause" if pausing else ""

        def save(run: Any) -> None:
            started = time.perf_counter()
            real_save(run)
            if not pausing:  # that of a pause waits for the one before, and no step waits for it
                within[steps] = time.perf_counter() - started

        def write(run: Any, best: Any, told: Any) -> None:
            started = time.perf_counter()
            real_write(run, best, told)
            if run.state.step == 0 and steps not in ends:  # the end of an epoch
                ends[steps] = time.perf_counter() - started

        def await_copied(folder: Any) -> None:
            started = time.perf_counter()
            real_await(folder)
            for waited in (within, ends):
                if steps in waited:
                    waited[steps] += time.perf_counter() - started

        loop.one_step, loop.save_within_epoch, loop.write_checkpoint = counted, save, write
        CheckpointFolder.await_copied = await_copied  # type: ignore[method-assign]
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
    result = {
        "benchmark": "training_resume",
        "network": asked.network,
        "task_type": asked.task_type,
        "checkpoint_megabytes": round(largest / 1e6),
        "resume_seconds": round(begun[0] - began, 2),
        "steps_done_twice": max(0, steps - 2 * per_epoch),
        "checkpoint_milliseconds": in_milliseconds(max, [*within.values()]),
        "checkpoints": len(within),
        "epoch_milliseconds": in_milliseconds(max, [ends[step] for step in ends if step < len(durations)]),
        "step_milliseconds": in_milliseconds(statistics.median, [seconds for step, seconds in enumerate(durations) if step not in within]),
        "saving_step_milliseconds": in_milliseconds(statistics.median, [durations[step] for step in within]),
    }
    print(json.dumps(result))


def in_milliseconds(of: Callable[[list[float]], float], seconds: list[float]) -> float | None:
    """What `of` makes of some times; None where there are none."""
    return round(1000 * of(seconds), 1) if seconds else None


if __name__ == "__main__":
    main()
