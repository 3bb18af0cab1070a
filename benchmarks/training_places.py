"""A fine-tuning on boxes, regions or several labels from Start to its model, against a plain torchvision script with the same network and recipe.

    python benchmarks/training_places.py --task-type object-detection --device cpu [--images 1000] [--epochs 2] [--batch-size 4] [--image-size 160]
    python benchmarks/training_places.py --task-type object-segmentation --device cpu --epochs 9 --batch-size 8 --image-size 96
    python benchmarks/training_places.py --task-type multi-label --device cpu --epochs 5 --batch-size 16 --image-size 128

The images are the sample's: digits scattered over photographs. The reference is what one writes first: DataLoader with a worker per core, PIL,
torchvision.transforms.v2 over tv_tensors, float32 on the CPU and autocast on a GPU, validation after each epoch, the state dict at the end.
Both start from the same weights and train by the same optimizer, learning rates, losses, augmentations and split, those of auto with what
`--set` says; both are judged by the same evaluator, and the best epoch counts. Each runs in a process of its own, one after the other; ours
decodes the images anew and ends with weights, card and pictures. Prints one line of JSON: `speedup` by wall time, `cpu_speedup` by processor
time (which other work on the machine disturbs less), `memory` by peak, and both scores (AP 50, mean Dice, mAP).
"""

import argparse
import json
import sys
import time
from typing import Any

from training_material import Bench, Listener
from training_reference import AUGMENTATIONS, WORKERS, busy_seconds, compared, images_of, parse_sides, peak_bytes, play_both

NETWORKS = {
    "object-detection": "faster_rcnn-tf_efficientnet_lite0",
    "object-segmentation": "fpn-tf_efficientnet_lite0",
    "multi-label": "tf_efficientnet_lite0",
}
SCORES = {"object-detection": "ap50", "object-segmentation": "dice", "multi-label": "map"}


def job_of(bench: Bench, asked: argparse.Namespace) -> Any:
    """What both sides train."""
    plan = {
        **AUGMENTATIONS,
        "rotation": False,
        "early_stop": False,
        "image_size": asked.image_size,
        "batch_size": asked.batch_size,
        "epochs": asked.epochs,
    }
    plan |= {name: json.loads(value) for name, value in (pair.split("=", 1) for pair in asked.set)}
    return bench.job(asked.network or NETWORKS[asked.task_type], task_type=asked.task_type, **plan)


def ours(asked: argparse.Namespace) -> dict[str, Any]:
    """Train and leave a model, as a worker does between Start and the end."""
    bench = Bench(asked.folder, asked.images, scattered=True)
    job = job_of(bench, asked)
    from worker.reports.model_files import write_model

    began, busy = time.perf_counter(), busy_seconds()
    result = bench.train(job, Listener())
    write_model(job, result, "models/bench", database=bench.database, storage=bench.storage, settings=bench.settings)
    seconds, busy = time.perf_counter() - began, busy_seconds() - busy
    return {"seconds": seconds, "cpu_seconds": busy, "score": result.metrics[SCORES[asked.task_type]], "peak_bytes": peak_bytes()}


def reference(asked: argparse.Namespace) -> dict[str, Any]:
    """The plain script."""
    bench = Bench(asked.folder, asked.images, scattered=True)
    job = job_of(bench, asked)
    import torch
    from torch.utils.data import DataLoader

    from worker.engine.schedule import learning_rate_factor
    from worker.engine.training import read_records
    from worker.networks import build

    records = {record.position: record for record in read_records(job, bench.database)[0]}
    split = json.loads(bench.storage.read(job.split_key))
    began, busy = time.perf_counter(), busy_seconds()
    plan = job.plan
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = build(job.spec, job.task_type, len(job.classes), settings=bench.settings, image_size=plan.image_size).to(device)
    loaders = {
        side: DataLoader(
            images_of([records[position] for position in split[side]], bench.source, job, training=side == "train"),
            plan.batch_size,
            shuffle=side == "train",
            num_workers=WORKERS,
            pin_memory=device.type == "cuda",
            collate_fn=lambda items: tuple(zip(*items, strict=True)),
        )
        for side in ("train", "validation")
    }
    if plan.optimizer == "adamw":
        optimizer: Any = torch.optim.AdamW(network.parameters(), plan.learning_rate, weight_decay=plan.weight_decay)
    else:
        optimizer = torch.optim.SGD(network.parameters(), plan.learning_rate, plan.momentum, weight_decay=plan.weight_decay)
    steps = len(loaders["train"])
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_factor(plan, step, steps))
    judge = judge_of(job, list(records.values()), split["validation"], device, bench.settings)
    best = 0.0
    for epoch in range(plan.epochs):
        network.train()
        for images, truths, _ in loaders["train"]:
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                loss = judge.loss(network, torch.stack(images).to(device), truths)
            optimizer.zero_grad()
            loss.backward()
            if plan.gradient_clip:
                torch.nn.utils.clip_grad_norm_(network.parameters(), plan.gradient_clip)
            optimizer.step()
            schedule.step()
        score = judge.score(network, loaders["validation"])
        print(f"reference, epoch {epoch + 1}: {score:.4f} after {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
        best = max(best, score)
    torch.save(network.state_dict(), asked.folder / "reference.pt")
    seconds, busy = time.perf_counter() - began, busy_seconds() - busy
    return {"seconds": seconds, "cpu_seconds": busy, "score": best, "peak_bytes": peak_bytes()}


def judge_of(job: Any, records: list[Any], validation: list[int], device: Any, settings: Any) -> Any:
    """The loss of the plain script, and its judging: the evaluator that ours is judged by, without the losses that ours tells besides."""
    import numpy as np
    import torch
    import torch.nn.functional as functional

    from core.vocabulary import TaskType
    from worker.engine.device import Device
    from worker.engine.training import build_objective
    from worker.objectives.detection import Outputs
    from worker.objectives.regions import RegionOutputs, region_loss

    row_of = {record.position: row for row, record in enumerate(records)}
    where = Device(device, "", False)
    objective: Any = build_objective(job, records, [row_of[position] for position in validation], where, settings, lambda: False)

    class Judge:
        def loss(self, network: Any, images: Any, truths: Any) -> Any:
            if job.task_type is TaskType.OBJECT_DETECTION:
                targets = [{name: value.as_subclass(torch.Tensor).to(device) for name, value in truth.items()} for truth in truths]
                return sum(network(images, targets).values())
            wanted = torch.stack(truths).to(device).as_subclass(torch.Tensor)
            if job.task_type is TaskType.MULTI_LABEL:
                return functional.binary_cross_entropy_with_logits(network(images).float(), wanted)
            classes = torch.arange(1, len(job.classes) + 1, device=device).view(1, -1, 1, 1)
            return region_loss(network(images).float(), wanted[:, None] == classes, exclusive=objective.exclusive)

        @torch.inference_mode()
        def score(self, network: Any, loader: Any) -> float:
            network.eval()
            evaluator = objective.evaluator()
            for images, _, positions in loader:
                rows = np.array([row_of[position] for position in positions])
                batch = torch.stack(images).to(device)
                if job.task_type is TaskType.OBJECT_DETECTION:
                    evaluator.update(Outputs(torch.zeros(()), network(batch), batch.shape[-1]), rows)
                else:
                    outputs = network(batch)
                    regions = job.task_type is TaskType.OBJECT_SEGMENTATION
                    evaluator.update(RegionOutputs(torch.zeros(()), outputs) if regions else outputs, rows)
            return float(evaluator.compute().metrics[SCORES[job.task_type.value]])

    return Judge()


def main() -> None:
    """Run both and print; with `--side` only one of them, in the folder given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task-type", choices=tuple(NETWORKS), default="object-detection")
    parser.add_argument("--network", default="", help="instead of one over lite0")
    parser.add_argument("--image-size", type=int, default=160)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=JSON", help="a value of the plan instead of auto's")
    asked = parse_sides(parser)
    if asked.side:
        print(json.dumps(ours(asked) if asked.side == "ours" else reference(asked)))
        return
    told = {name: getattr(asked, name) for name in ("task_type", "image_size", "batch_size", "images", "epochs", "set")}
    about = {"network": asked.network or NETWORKS[asked.task_type], "score": SCORES[asked.task_type], "cores": WORKERS}
    print(json.dumps({"benchmark": "training_places", **about, **told, **compared(play_both(__file__))}))


if __name__ == "__main__":
    main()
