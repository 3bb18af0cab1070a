"""What the comparisons with a plain training script share: the same augmentations, its loaders, what is measured, and both sides one after the other."""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from training_material import ROOT, on_device

AUGMENTATIONS = {"horizontal_flip": False, "resized_crop": True, "translation": True, "translation_percent": 5, "colour_jitter": True}
WORKERS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 2


def peak_bytes() -> int:
    """The most memory that tensors took on the GPU; without one, the most that this process took of the host's."""
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def busy_seconds() -> float:
    """The processor time of this process and of the loaders' that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def play_both(file: str) -> dict[str, dict[str, float]]:
    """Run the benchmark `file` as each side in a process of its own, in one folder: first `ours`, then `reference`; what they printed last."""
    numbers = {}
    with tempfile.TemporaryDirectory() as folder:
        for side in ("ours", "reference"):
            command = [sys.executable, file, *sys.argv[1:], "--side", side, "--folder", folder]
            played = subprocess.run(command, cwd=ROOT / "benchmarks", stdout=subprocess.PIPE, text=True, check=True)
            numbers[side] = json.loads(played.stdout.splitlines()[-1])
    return numbers


def parse_sides(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """What was asked for, the options of every comparison among it: the device, which is set here, and, for `play_both` alone, side and folder."""
    parser.add_argument("--side", choices=("ours", "reference"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="", help="where, if not on the best there is")
    asked = parser.parse_args()
    on_device(asked.device)
    return asked


def compared(numbers: dict[str, dict[str, float]]) -> dict[str, Any]:
    """How much faster ours is, by wall and processor time, the share of the memory that it takes, and the numbers of both."""
    ours, reference = numbers["ours"], numbers["reference"]
    return {
        "speedup": round(reference["seconds"] / ours["seconds"], 2),
        "memory": round(ours["peak_bytes"] / reference["peak_bytes"], 3),
        "cpu_speedup": round(reference["cpu_seconds"] / ours["cpu_seconds"], 2),
        **{side: {name: round(value, 3) for name, value in values.items()} for side, values in numbers.items()},
    }


def images_of(records: list[Any], source: Path, job: Any, *, training: bool) -> Any:
    """A torch dataset as one writes it: each image read by PIL, augmented by torchvision's transforms with its boxes or masks.

    Gives the image, normalised, what is true of it in the shape the network's loss takes, and its row among the records.
    """
    import numpy as np
    import torch
    from PIL import Image
    from torch.utils.data import Dataset
    from torchvision import tv_tensors
    from torchvision.transforms import v2

    from core.datasets import masks
    from core.vocabulary import TaskType
    from worker.objectives.region_maps import regions_of

    plan, side = job.plan, job.plan.image_size
    steps: list[Any] = []
    if training:
        steps += [v2.RandomResizedCrop(side, scale=(0.25, 1), antialias=True)] if plan.resized_crop else [v2.Resize((side, side))]
        steps += [v2.RandomHorizontalFlip()] if plan.horizontal_flip else []
        shift = (plan.translation_percent / 100,) * 2 if plan.translation else None
        turn = plan.rotation_degrees if plan.rotation else 0
        steps += [v2.RandomAffine(turn, translate=shift)] if shift or turn else []
        steps += [v2.ColorJitter(plan.brightness, plan.contrast, plan.saturation, plan.hue)] if plan.colour_jitter else []
    else:
        steps.append(v2.Resize((side, side)))
    steps += [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(job.spec.mean, job.spec.std)]
    if job.task_type is TaskType.OBJECT_DETECTION:
        steps += [v2.ClampBoundingBoxes(), v2.SanitizeBoundingBoxes(min_size=2)]
    transform = v2.Compose(steps)

    def truth(record: Any) -> Any:
        if job.task_type is TaskType.MULTI_LABEL:
            wanted = torch.zeros(len(job.classes))
            wanted[record.value["labels"]] = 1
            return wanted
        if job.task_type is TaskType.OBJECT_DETECTION:
            found = np.array(record.value["boxes"], np.float32).reshape(-1, 5)
            boxes = tv_tensors.BoundingBoxes(found[:, 1:], format="XYWH", canvas_size=(record.height, record.width))
            return {
                "boxes": v2.functional.convert_bounding_box_format(boxes, new_format="XYXY"),
                "labels": torch.from_numpy(found[:, 0]).long(),
            }
        marked = np.zeros((record.height, record.width), np.int64)
        for number, rle in regions_of(record, job.annotation_kind):
            marked[masks.decode(rle, record.width, record.height) > 0] = number + 1
        return tv_tensors.Mask(marked)

    class Images(Dataset[Any]):
        def __len__(self) -> int:
            return len(records)

        def __getitem__(self, index: int) -> Any:
            with Image.open(source / records[index].path) as opened:
                image = opened.convert("RGB")
            return (*transform(image, truth(records[index])), records[index].position)

    return Images()
