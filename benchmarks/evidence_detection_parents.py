"""Weights for a detection transformer whose recipe is to be compared, taught here: no model hub is needed, and none of its weights comes in a package.

Its backbone first learns the answers of EfficientNet-Lite0 to pieces of photographs, as `evidence_parents.py` has it; then the whole network learns
to find letters of many fonts on photographs, a new scene each time. What it is fine-tuned on afterwards are handwritten digits, whose classes,
strokes and numbers are others, as objects of users are other than COCO's.

    python benchmarks/evidence_detection_parents.py dfine-nano --out taught.safetensors --minutes 45   # of one core
    python benchmarks/training_accuracy.py --task-type object-detection --network dfine-nano.coco --weights taught.safetensors --auto \
        --set epochs=3 --set image_size=256 --set learning_rate=0.001
"""

import argparse
import json
import string
import sys
import time
from pathlib import Path
from typing import Any

import training_material  # noqa: F401  # before torch

# isort: split

import matplotlib
import numpy as np
import torch
from evidence_material import Pixels
from evidence_parents import learn_answers
from PIL import Image, ImageDraw, ImageFont
from safetensors.torch import save_file
from torch import Tensor, nn
from torchmetrics.detection import MeanAveragePrecision

from core.datasets.scattered_digits import draw_scene, load_photographs
from core.settings import Settings
from worker.networks import detection_transformers, loading

LETTERS = string.ascii_uppercase
FONTS = ("Sans", "Sans-Bold", "Sans-Oblique", "SansMono", "SansMono-Bold", "Serif", "Serif-Bold", "Serif-Italic")
HELD_OUT = ("Serif-BoldItalic", "Sans-BoldOblique")  # of these are the letters that it is judged by
PIECES = 60_000
PIECE_SIDE = 64  # px
SIDE = 160  # px, of the scenes as the network sees them: about their own
BATCH = 8
RATE = 5e-4
# Fewer than the network has: a fraction of a step's time, and its weights do not depend on how many there are.
QUERIES, DENOISING = 50, 50
JUDGED = 96  # scenes


class Letters:
    """Endless scenes of letters on photographs."""

    def __init__(self, seed: int, fonts: tuple[str, ...]) -> None:
        self.random = np.random.default_rng(seed)
        self.photographs = load_photographs()
        folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
        self.fonts = [ImageFont.truetype(str(folder / f"DejaVu{name}.ttf"), 26) for name in fonts]

    def letter(self) -> tuple[Pixels, int]:
        """One letter, turned a little: [28, 28] uint8, white on black, and which it is."""
        label = int(self.random.integers(len(LETTERS)))
        paper = Image.new("L", (28, 28))
        font = self.fonts[int(self.random.integers(len(self.fonts)))]
        ImageDraw.Draw(paper).text((14, 14), LETTERS[label], 255, font, anchor="mm")
        return np.asarray(paper.rotate(self.random.uniform(-15, 15), Image.Resampling.BICUBIC)), label

    def batch(self, count: int) -> tuple[Tensor, list[dict[str, Tensor]]]:
        """Scenes [count, 3, SIDE, SIDE] in 0–1, and of each the classes and the boxes (centre, size, as shares of the image)."""
        images, labels = [], []
        for _ in range(count):
            scene = draw_scene(self.random, self.photographs, [self.letter() for _ in range(int(self.random.integers(2, 7)))])
            wide, high = scene.image.size
            images.append(np.asarray(scene.image.resize((SIDE, SIDE), Image.Resampling.BILINEAR)))
            boxes = [((x + w / 2) / wide, (y + h / 2) / high, w / wide, h / high) for x, y, w, h in scene.boxes]
            labels.append({"class_labels": torch.tensor(scene.labels, dtype=torch.long), "boxes": torch.tensor(boxes).view(-1, 4)})
        return (torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) / 255).contiguous(memory_format=torch.channels_last), labels


def teach_backbone(backbone: nn.Module, images: int, settings: Settings) -> None:
    """Teach it the teacher's answers to pieces of photographs, by a linear layer on the mean of its last map."""
    outputs = nn.LazyLinear(1000)

    def answer(pieces: Tensor) -> Tensor:
        logits: Tensor = outputs(backbone(pieces).feature_maps[-1].mean((2, 3)))
        return logits

    answer(torch.zeros(2, 3, PIECE_SIDE, PIECE_SIDE))  # its width is known now
    learn_answers("backbone", answer, [*backbone.parameters(), *outputs.parameters()], PIECE_SIDE, images, settings, rate=2e-3)


def judge(detector: nn.Module) -> dict[str, float]:
    """Average precision on letters of fonts that it never saw."""
    metric = MeanAveragePrecision(backend="faster_coco_eval", box_format="cxcywh")
    scenes = Letters(1, HELD_OUT)
    detector.eval()
    for _ in range(JUDGED // BATCH):
        images, labels = scenes.batch(BATCH)
        with torch.inference_mode():
            out: Any = detector(pixel_values=images)
        scores, classes = out.logits.sigmoid().max(-1)
        found = zip(out.pred_boxes, scores, classes, strict=True)
        metric.update(
            [{"boxes": SIDE * boxes, "scores": score, "labels": label} for boxes, score, label in found],
            [{"boxes": SIDE * one["boxes"], "labels": one["class_labels"]} for one in labels],
        )
    detector.train()
    values = metric.compute()
    return {name: round(float(values[name]), 4) for name in ("map", "map_50")}


def main() -> None:
    """Teach, and print what the parent can do."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", help="D-FINE or RT-DETRv2, as the zoo calls it")
    parser.add_argument("--out", type=Path, required=True, help="the safetensors file to write")
    parser.add_argument("--minutes", type=float, default=45, help="of finding letters, after the backbone has been taught")
    parser.add_argument("--pieces", type=int, default=PIECES, help="that the backbone is shown before")
    parser.add_argument("--start", type=Path, help="a file of this script's to go on from, instead of teaching the backbone")
    asked = parser.parse_args()
    torch.manual_seed(0)
    config = detection_transformers.configuration(asked.network, len(LETTERS))
    config.num_queries, config.num_denoising = QUERIES, DENOISING
    detector = detection_transformers.bare(asked.network, config).to(memory_format=torch.channels_last).train()
    backbone = detector.model.backbone.model
    if asked.start:
        loading.restore(detector, loading.read(asked.start))
    else:
        teach_backbone(backbone, asked.pieces, Settings())
        write(detector, asked.out)
    # Of the authors' own training of the smallest: half the rate for the backbone, gradients cut at 0.1, an average of the weights.
    of_backbone = {id(parameter) for parameter in backbone.parameters()}
    groups = [
        {"params": [p for p in detector.parameters() if id(p) not in of_backbone], "lr": RATE},
        {"params": list(backbone.parameters()), "lr": RATE / 2},
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=1e-4, fused=True)
    average = torch.optim.swa_utils.AveragedModel(
        detector, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.995), use_buffers=True
    )
    scenes, began, step, told = Letters(0, FONTS), time.monotonic(), 0, 0.0
    while (share := (time.monotonic() - began) / (60 * asked.minutes)) < 1:
        factor = min(1.0, step / 200) * 0.5 * (1 + np.cos(np.pi * share))
        for group, rate in zip(optimizer.param_groups, (RATE, RATE / 2), strict=True):
            group["lr"] = rate * factor
        images, labels = scenes.batch(BATCH)
        loss = detector(pixel_values=images, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(detector.parameters(), 0.1)
        optimizer.step()
        optimizer.zero_grad()
        average.update_parameters(detector)
        step += 1
        if step % 100 == 0:
            told = 0.9 * told + 0.1 * loss.item() if told else loss.item()
            print(f"step {step}, {share:.0%} of the time: loss {told:.2f}", file=sys.stderr, flush=True)
        if step % 500 == 0:
            print(json.dumps(judge(average.module)), file=sys.stderr, flush=True)
            write(average.module, asked.out)
    write(average.module, asked.out)
    print(json.dumps({"network": asked.network, "scenes": step * BATCH, **judge(average.module)}))


def write(detector: nn.Module, file: Path) -> None:
    """Its weights under the library's names, as the converted checkpoints have them."""
    save_file({name: tensor.clone().contiguous() for name, tensor in detector.state_dict().items()}, file)


if __name__ == "__main__":
    main()
