"""Pre-trained weights for the networks whose recipes are to be compared, of what packages hold: no model hub is needed.

*TinyViT* gets MobileSAM's image encoder (Zhang et al. 2023, Apache-2.0), which has learnt from the photographs of SA-1B. Others are taught by
EfficientNet-Lite0 and its ImageNet weights: random pieces of a few photographs are shown to both, and the pupil learns the teacher's answers.
That even one photograph teaches much in this way is shown by Asano and Saeed (2023, “Extrapolating from a single image to a thousand classes”).

    python benchmarks/evidence_parents.py convnext_atto --out taught.safetensors
"""

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import training_material  # noqa: F401  # before torch

# isort: split

import numpy as np
import timm
import torch
from evidence_material import OTHER_PICTURES, PHOTOGRAPHS, Pixels, picture
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from core.settings import Settings
from core.zoo import weights
from core.zoo.catalogue import find_spec
from worker.networks import loading

TEACHER = "tf_efficientnet_lite0"
TAUGHT_IMAGES = 60_000
BATCH = 64
RATE = 1e-3
TEMPERATURE = 2.0  # of both answers: the teacher is seldom sure of a piece


def encoder_of_mobile_sam(checkpoint: Path, file: Path) -> None:
    """Write MobileSAM's image encoder under timm's names, without its neck.

    In the checkpoint a stage ends with the step down to the next, in timm the next begins with it.
    """
    renamed = (
        (r"^image_encoder\.", ""),
        (r"^layers\.(\d)\.downsample", lambda found: f"stages.{int(found[1]) + 1}.downsample"),
        (r"^layers\.", "stages."),
        (r"^patch_embed\.seq\.(\d)", lambda found: f"patch_embed.conv{int(found[1]) // 2 + 1}"),
        (r"\.c\.", ".conv."),
        (r"^norm_head\.", "head.norm."),
        (r"^head\.(weight|bias)", r"head.fc.\1"),
    )
    encoder = {}
    for name, tensor in loading.read(checkpoint).items():
        if name.startswith("image_encoder.") and ".neck." not in name:
            for pattern, replacement in renamed:
                name = re.sub(pattern, replacement, name)
            encoder[name] = tensor
    save_file(encoder, file)


def taught(network: str, side: int, file: Path, settings: Settings, images: int = TAUGHT_IMAGES) -> None:
    """Teach a network of timm's by the teacher's answers to pieces of `side` pixels, normalised as the teacher's are, and write its weights."""
    torch.manual_seed(0)
    spec, entry = find_spec(TEACHER, settings=settings), find_spec(network, weights.NONE)
    pupil = timm.create_model(network, **({"img_size": side} if entry.sized_at_build else {}))
    pupil = pupil.train().to(memory_format=torch.channels_last)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (spec.mean, spec.std))
    learn_answers(network, lambda pieces: pupil((pieces - mean) / std), list(pupil.parameters()), side, images, settings)
    if entry.sized_at_build:
        pupil.set_input_size(img_size=entry.input_size)
    save_file({name: tensor.clone().contiguous() for name, tensor in pupil.state_dict().items()}, file)


def learn_answers(
    name: str,
    answer: Callable[[Tensor], Tensor],
    parameters: Sequence[nn.Parameter],
    side: int,
    images: int,
    settings: Settings,
    rate: float = RATE,
) -> None:
    """Train the `parameters` until what `answer` makes of pieces [n, 3, side, side] in 0–1 is what the teacher says of them, [n, 1000] logits."""
    random = np.random.default_rng(0)
    pictures = [picture(name).convert("RGB") for name in (*PHOTOGRAPHS, *OTHER_PICTURES)]
    spec = find_spec(TEACHER, settings=settings)
    teacher = timm.create_model(TEACHER).eval().to(memory_format=torch.channels_last)
    path = weights.obtain(spec, settings)
    loading.restore(teacher, loading.by_order(loading.read(path), teacher, path))
    steps = images // BATCH
    optimizer = torch.optim.AdamW(parameters, rate, weight_decay=0.02, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps, pct_start=0.1)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (spec.mean, spec.std))
    for step in range(steps):
        pieces = torch.from_numpy(np.stack([_piece(pictures, side, random) for _ in range(BATCH)])).permute(0, 3, 1, 2) / 255
        share = random.uniform(0.5, 1)  # two pieces through each other: more kinds of pictures than there are photographs
        pieces = (share * pieces + (1 - share) * pieces.flip(0)).contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            wanted = (teacher((pieces - mean) / std) / TEMPERATURE).softmax(1)
        loss = functional.cross_entropy(answer(pieces) / TEMPERATURE, wanted)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if step % 50 == 0:
            unsure = -(wanted * wanted.clamp_min(1e-9).log()).sum(1).mean()
            print(
                f"{name}: step {step} of {steps}, {loss.item() - unsure.item():.3f} from the teacher's answers",
                file=sys.stderr,
                flush=True,
            )


def _piece(pictures: list[Image.Image], side: int, random: np.random.Generator) -> Pixels:
    """A square piece of any size and place, mirrored or not, turned by quarters now and then."""
    chosen = pictures[int(random.integers(len(pictures)))]
    reach = min(chosen.size)
    edge = min(reach, side * 0.5 * (reach / (side * 0.5)) ** random.random())
    left, top = random.uniform(0, chosen.width - edge), random.uniform(0, chosen.height - edge)
    piece = np.asarray(chosen.resize((side, side), Image.Resampling.BILINEAR, box=(left, top, left + edge, top + edge)))
    piece = piece[:, ::-1] if random.random() < 0.5 else piece
    return np.ascontiguousarray(np.rot90(piece, int(random.integers(4)))) if random.random() < 0.2 else np.ascontiguousarray(piece)


def main() -> None:
    """Teach one network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", help="a network for classification of timm's")
    parser.add_argument("--out", type=Path, required=True, help="the safetensors file to write")
    parser.add_argument("--side", type=int, default=64, help="of the pieces, in pixels")
    parser.add_argument("--images", type=int, default=TAUGHT_IMAGES, help="how many pieces it sees")
    asked = parser.parse_args()
    taught(asked.network, asked.side, asked.out, Settings(), asked.images)


if __name__ == "__main__":
    main()
