"""What a resumed training costs before its first new step, and for how long a checkpoint stops the steps.

    python benchmarks/training_resume.py [--network tf_efficientnet_lite0] [--image-size 128] [--images 400]

A training is paused within its second epoch, as at the end of a worker, and taken up as the next generation. Prints one line of JSON:
`resume_seconds` from the call to the first new step (the images are cached, as they are after a restart of a worker), and
`checkpoint_milliseconds`, the longest of some checkpoints within an epoch, as the loop waits for it.
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
    parser.add_argument("--device", choices=("cpu", "cuda"), default="", help="where, if not on the best there is")
    asked = parser.parse_args()
    on_device(asked.device)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), asked.images)
        from worker.engine import loop

        steps = 0
        stalls: list[float] = []
        real_step, real_save = loop.one_step, loop.save_within_epoch

        def counted(*arguments: Any) -> Any:
            nonlocal steps
            steps += 1
            return real_step(*arguments)

        def timed(run: Any) -> None:
            began = time.perf_counter()
            real_save(run)
            stalls.append(time.perf_counter() - began)

        loop.one_step, loop.save_within_epoch = counted, timed
        job = bench.job(asked.network, image_size=asked.image_size, batch_size=16, epochs=2)
        per_epoch = -(-round(asked.images * 0.8) // 16)
        # Far enough apart that each write is over before the next, as with the usual interval of minutes.
        bench.settings.checkpoint_seconds = 4.0
        bench.train(job, Listener(script=lambda _: "pause" if steps > 1.5 * per_epoch else ""))
        before = steps
        began = time.perf_counter()
        first_step: list[float] = []

        def noted(*arguments: Any) -> Any:
            outcome = counted(*arguments)
            if not first_step:
                first_step.append(time.perf_counter() - began)
            return outcome

        loop.one_step = noted
        bench.train(replace(job, generation=2), Listener())
        again = before + (steps - before) - 2 * per_epoch
    result = {
        "benchmark": "training_resume",
        "network": asked.network,
        "resume_seconds": round(first_step[0], 2),
        "steps_done_twice": max(0, again),
        "checkpoint_milliseconds": round(1000 * max(stalls), 1),
        "checkpoints": len(stalls),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
