"""Wall time of a fine-tuning from Start to its model, against a plain reference script on the same machine, network, images and epochs.

    python benchmarks/training_whole_job.py [--network tf_efficientnet_lite0] [--image-size 128] [--images 10000] [--epochs 5] [--batch-size 64]

The reference is what one writes first: DataLoader with a worker per core, PIL, torchvision's transforms, AdamW and a cosine, float32 on the CPU and
autocast on a GPU, validation after each epoch, the state dict at the end. Both crop, shift and colour at the same strengths, from the same weights,
with the same split. Our side decodes the images anew (no cache from before) and ends with weights, card and pictures. Each runs in a process of its
own, one after the other. Prints one line of JSON: `speedup` by wall time, `cpu_speedup` by processor time (which other work on the machine disturbs
less), `memory` by peak (of the GPU where there is one), and both accuracies.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

from training_material import Bench, Listener
from training_reference import AUGMENTATIONS, WORKERS, busy_seconds, compared, parse_sides, peak_bytes, play_both


def ours(asked: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Train and leave a model, as a worker does between Start and the end; also tells the reference the split and the recipe."""
    bench = Bench(folder, asked.images)
    if asked.streamed:
        bench.settings.resident_share = 0
    plan = {**AUGMENTATIONS, "image_size": asked.image_size, "batch_size": asked.batch_size, "epochs": asked.epochs, "early_stop": False}
    job = bench.job(asked.network, **plan)
    from worker.engine.training import read_records
    from worker.reports.model_files import write_model

    began, busy = time.perf_counter(), time.process_time()
    result = bench.train(job, Listener())
    write_model(job, result, "models/bench", database=bench.database, storage=bench.storage, settings=bench.settings)
    seconds, busy = time.perf_counter() - began, time.process_time() - busy
    split = json.loads(bench.storage.read(job.split_key))
    records = {record.position: record for record in read_records(job, bench.database)[0]}
    sides = {
        side: [(str(bench.source / records[position].path), records[position].value["label"]) for position in split[side]]
        for side in ("train", "validation")
    }
    about = {"learning_rate": job.plan.learning_rate, "weight_decay": job.plan.weight_decay, "label_smoothing": job.plan.label_smoothing}
    (folder / "reference.json").write_text(json.dumps({**sides, **about, "mean": job.spec.mean, "std": job.spec.std}))
    return {"seconds": seconds, "cpu_seconds": busy, "accuracy": result.metrics["accuracy"], "peak_bytes": peak_bytes()}


def reference(asked: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The plain script."""
    import torch
    from PIL import Image
    from torch import nn
    from torch.utils.data import DataLoader, Dataset
    from torchvision import transforms

    from core.settings import Settings
    from core.vocabulary import TaskType
    from core.zoo.catalogue import find_spec
    from worker.networks import build

    about = json.loads((folder / "reference.json").read_text())
    began = time.perf_counter()
    size = asked.image_size
    to_input = [transforms.ToTensor(), transforms.Normalize(about["mean"], about["std"])]
    augmented = [
        transforms.RandomResizedCrop(size, scale=(0.25, 1)),
        transforms.RandomAffine(0, translate=(0.05, 0.05)),
        transforms.ColorJitter(0.1, 0.1, 0.1, 0.1),
    ]

    class Images(Dataset[Any]):
        def __init__(self, items: list[Any], transform: Any) -> None:
            self.items, self.transform = items, transform

        def __len__(self) -> int:
            return len(self.items)

        def __getitem__(self, index: int) -> Any:
            path, label = self.items[index]
            return self.transform(Image.open(path).convert("RGB")), label

    settings = Settings(home=folder / "reference")
    spec = find_spec(asked.network, settings=settings)
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = build(spec, TaskType.SINGLE_LABEL, 10, settings=settings, image_size=size).to(device)
    training = DataLoader(
        Images(about["train"], transforms.Compose([*augmented, *to_input])),
        asked.batch_size,
        shuffle=True,
        num_workers=WORKERS,
        pin_memory=device.type == "cuda",
    )
    resized = transforms.Compose([transforms.Resize((size, size)), *to_input])
    validating = DataLoader(Images(about["validation"], resized), asked.batch_size, num_workers=WORKERS)
    optimizer = torch.optim.AdamW(network.parameters(), about["learning_rate"], weight_decay=about["weight_decay"])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, asked.epochs * len(training))
    loss_of = nn.CrossEntropyLoss(label_smoothing=about["label_smoothing"])
    best = 0.0
    for _ in range(asked.epochs):
        network.train()
        for images, labels in training:
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                loss = loss_of(network(images.to(device)), labels.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        network.eval()
        right = 0
        with torch.inference_mode():
            for images, labels in validating:
                right += int((network(images.to(device)).argmax(1).cpu() == labels).sum())
        best = max(best, right / len(about["validation"]))
    torch.save(network.state_dict(), folder / "reference.pt")
    return {"seconds": time.perf_counter() - began, "cpu_seconds": busy_seconds(), "accuracy": best, "peak_bytes": peak_bytes()}


def main() -> None:
    """Run both and print; with `--side` only one of them, in the folder given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", default="tf_efficientnet_lite0")
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--streamed", action="store_true", help="our images do not stay on the GPU")
    asked = parse_sides(parser)
    if asked.side:
        print(json.dumps(ours(asked, asked.folder) if asked.side == "ours" else reference(asked, asked.folder)))
        return
    numbers = play_both(__file__)
    print(
        json.dumps(
            {
                "benchmark": "training_whole_job",
                "network": asked.network,
                "image_size": asked.image_size,
                "batch_size": asked.batch_size,
                "images": asked.images,
                "epochs": asked.epochs,
                **compared(numbers),
            }
        )
    )


if __name__ == "__main__":
    main()
