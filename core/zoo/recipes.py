"""The recipe of each network family, and the plan that a job trains by: recipe and data for *auto*, what was typed for *manual*."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core.errors import InvalidInputError
from core.tasks.hyperparameters import Hyperparameters, TrainingPlan, parse_fields
from core.vocabulary import TaskType
from core.zoo.facts import DatasetFacts
from core.zoo.spec import ModelSpec


@dataclass(frozen=True)
class Recipe:
    """How a family is fine-tuned. `learning_rate` holds at `batch_size`; `images_seen` is how many images a fine-tuning looks at in all.

    From scratch it looks at `scratch_factor` times as many, at `scratch_learning_rate`.
    """

    optimizer: str
    learning_rate: float
    scratch_learning_rate: float
    weight_decay: float
    batch_size: int
    images_seen: int
    scratch_factor: float
    label_smoothing: float = 0.0
    warmup_share: float = 0.06
    layer_decay: float = 1.0
    gradient_clip: float = 0.0
    ema_decay: float = 0.0
    whole_factor: float = 1.0  # of the learning rate where the whole network is pre-trained on such tasks, not its backbone alone
    fewest_epochs: int = 5
    most_epochs: int = 60


# AdamW throughout: within a few epochs it needs less care than SGD. Rates: 2e-3 for batch-normalised convolutional networks; ConvNeXt's and
# ViT's authors fine-tune at 5e-5 … 5e-4 with layer-wise decay (Liu et al. 2022, appendix A.3; Bao et al. 2021).
RECIPES: dict[str, Recipe] = {
    "convolutional": Recipe("adamw", 2e-3, 2e-3, 0.05, batch_size=64, images_seen=24_000, scratch_factor=6, label_smoothing=0.1),
    "modern-convolutional": Recipe(
        "adamw",
        3e-4,
        1e-3,
        0.05,
        batch_size=64,
        images_seen=20_000,
        scratch_factor=5,
        label_smoothing=0.1,
        layer_decay=0.8,
        gradient_clip=1.0,
    ),
    "transformer": Recipe(
        "adamw",
        3e-4,
        5e-4,
        0.05,
        batch_size=64,
        images_seen=20_000,
        scratch_factor=6,
        label_smoothing=0.1,
        layer_decay=0.75,
        gradient_clip=1.0,
    ),
    # On 480 images of scattered digits (192 px, Faster R-CNN over lite0's weights) 1e-3 in batches of 4 had an AP 50 of 0.44 after one epoch
    # and 0.79 after two; 3e-4 in batches of 8 had 0.02 after one. Small batches cost a detector little: its batch statistics are frozen.
    "detector": Recipe(
        "adamw",
        1e-3,
        5e-4,
        0.01,
        batch_size=4,
        images_seen=16_000,
        scratch_factor=4,
        gradient_clip=5.0,
        whole_factor=0.3,
        fewest_epochs=8,
        most_epochs=80,
    ),
    "detection-transformer": Recipe(
        "adamw",
        1e-4,
        2e-4,
        0.0001,
        batch_size=8,
        images_seen=24_000,
        scratch_factor=8,
        gradient_clip=0.1,
        layer_decay=0.9,
        fewest_epochs=10,
        most_epochs=80,
    ),
    # On 800 images of scattered digits (96 px, a feature pyramid on lite0's weights, batches of 4) 2e-3 had a mean Dice of 0.80 after four epochs.
    "segmenter": Recipe(
        "adamw",
        2e-3,
        1e-3,
        0.01,
        batch_size=8,
        images_seen=12_000,
        scratch_factor=4,
        gradient_clip=5.0,
        whole_factor=0.3,
        fewest_epochs=8,
        most_epochs=80,
    ),
    # Over ConvNeXt, CAFormer and PVT. Their authors take 1e-4 in batches of 16 (Liu et al. 2022, appendix A.3; Wang et al. 2022).
    "modern-segmenter": Recipe(
        "adamw", 2e-4, 5e-4, 0.05, batch_size=8, images_seen=12_000, scratch_factor=4, gradient_clip=1.0, fewest_epochs=8, most_epochs=80
    ),
}

# Small images are scaled up, because a stride of 32 would leave a 28 px digit a single position. Measured on the 5,000 digits (two cores, lite0 at
# 48 px, batch 64, AdamW, cosine, warm-up of 6 %, new outputs from near zero): 2e-3 and 6 epochs end at 98.7 % (seed 0), 1e-3 and 5 epochs at 97.9 to
# 98.8 % (seeds 0 to 2); 64 px gain nothing in the same time, nor does an average of the weights (EMA) in trainings this short.
SMALLEST_SIDE = 48
UPSCALE = 1.75
SIDE_STEP = 16
# Where the commonest class has so many times the images of the rarest, rare ones count for more in the loss: by the square root of their rarity,
# half way between no weights and weights that would let each class count the same (Mahajan et al. 2018 resample by the square root).
IMBALANCE = 10
CLASS_BALANCE = 0.5
# Recipes of networks that answer with places: their images are scenes, whose objects are smaller than they.
REGIONS = ("segmenter", "modern-segmenter")
PLACES = ("detector", "detection-transformer", *REGIONS)
SMALLEST_SCENE = 128
SMALLEST_OBJECT = 16


def auto_plan(
    spec: ModelSpec,
    task_type: TaskType,
    facts: DatasetFacts,
    overrides: Mapping[str, Any] | None = None,
    seed: int = 0,
    *,
    learns_on: bool = False,
) -> TrainingPlan:
    """The family's recipe fitted to the data, with what the person insisted on.

    No transform that could change a label (a mirrored or turned digit is another digit): small shifts only. Where a finished model `learns_on`, the
    whole network has learnt such a task already, whatever it once began from.

    Raises:
        InvalidInputError: for an override out of its range, or an image size that the network does not take.
    """
    given = parse_fields(overrides or {})
    recipe = RECIPES[spec.recipe]
    scratch = spec.pretraining == "none" and not learns_on
    batch_size = given.get("batch_size", auto_batch_size(spec, facts))
    epochs = given.get("epochs") or auto_epochs(spec, facts, scratch=scratch)
    rate = recipe.scratch_learning_rate if scratch else recipe.learning_rate * (recipe.whole_factor if learns_on or is_whole(spec) else 1.0)
    # The square-root rule for Adam (Malladi et al. 2022).
    factor = (batch_size / recipe.batch_size) ** 0.5 if isinstance(batch_size, int) else 1.0
    values: dict[str, Any] = {
        "batch_size": batch_size,
        "epochs": epochs,
        "learning_rate": float(f"{rate * factor:.3g}"),
        "learning_rate_schedule": "cosine",
        "weight_decay": recipe.weight_decay,
        "early_stop": True,
        "patience": max(5, epochs // 3),
        "horizontal_flip": False,
        "resized_crop": False,
        "translation": True,
        "translation_percent": 5,
        "rotation": False,
        "colour_jitter": False,
        "optimizer": recipe.optimizer,
        "warmup_epochs": round(min(2.0, epochs * recipe.warmup_share), 2),
        "label_smoothing": recipe.label_smoothing if task_type is TaskType.SINGLE_LABEL else 0.0,
        "ema_decay": recipe.ema_decay,
        "class_balance": CLASS_BALANCE if task_type is TaskType.SINGLE_LABEL and is_imbalanced(facts) else 0.0,
        "layer_decay": 1.0 if scratch else recipe.layer_decay,
        "gradient_clip": recipe.gradient_clip,
        "seed": seed,
    }
    values |= given
    values["image_size"] = resolve_image_size(spec, facts, given.get("image_size", "auto"))
    return TrainingPlan(**values)


def is_imbalanced(facts: DatasetFacts) -> bool:
    """Whether some class has far more images than another."""
    return facts.largest_class > IMBALANCE * max(1, facts.smallest_class)


def is_whole(spec: ModelSpec) -> bool:
    """Whether the weights are of the whole network, not of its backbone alone: those for places are pre-trained on COCO."""
    return spec.pretrained_on.startswith("COCO")


def manual_plan(spec: ModelSpec, facts: DatasetFacts, hyperparameters: Hyperparameters) -> TrainingPlan:
    """Exactly what the person typed, by SGD; only an image size of `auto` is settled here (a batch size of `auto` when the device is known).

    Raises:
        InvalidInputError: when the network does not take the image size.
    """
    values = hyperparameters.model_dump()
    values["image_size"] = resolve_image_size(spec, facts, hyperparameters.image_size)
    return TrainingPlan(**values)


def resolve_image_size(spec: ModelSpec, facts: DatasetFacts, asked: int | str) -> int:
    """The side in pixels: the one asked for, or for `auto` one that follows the images and the network.

    Raises:
        InvalidInputError: when the network does not take the side asked for.
    """
    if isinstance(asked, int):
        if not spec.accepts_size(asked):
            raise InvalidInputError(
                f"Input size (image_size): {spec.network} takes {spec.sizes_text}; “{asked}” was given.", "Enter such a size, or auto."
            )
        return asked
    if spec.fixed_size:
        return spec.input_size
    longest = max(facts.width, facts.height) or spec.input_size
    step = spec.size_multiple if spec.size_multiple >= SIDE_STEP else -(-SIDE_STEP // spec.size_multiple) * spec.size_multiple
    smallest = -(-spec.min_size // spec.size_multiple) * spec.size_multiple
    wanted = (
        max(SMALLEST_SIDE, UPSCALE * longest)
        if spec.recipe not in PLACES
        else max(SMALLEST_SCENE, _scene_upscale(facts, longest) * longest)
    )
    # Larger images are shrunk to the network's own side; smaller ones get the nearest step, where the network takes it.
    return spec.input_size if wanted >= spec.input_size else max(round(wanted / step) * step, smallest)


def _scene_upscale(facts: DatasetFacts, longest: int) -> float:
    """Objects of a few pixels vanish between the strides of a detector: such images are doubled."""
    return 2.0 if longest < SMALLEST_SCENE or 0 < facts.object_side * longest < SMALLEST_OBJECT else 1.0


def auto_batch_size(spec: ModelSpec, facts: DatasetFacts) -> int:
    """The recipe's, less for few images, so that an epoch has some ten steps; more for many, where steps are plenty."""
    size = recommended = RECIPES[spec.recipe].batch_size
    if spec.recipe in PLACES and facts.training > 10_000:
        return size * 2
    while size > 4 and facts.training < size * 10:
        size //= 2
    return size * 2 if facts.training > 50_000 and recommended >= 64 else size


def auto_epochs(spec: ModelSpec, facts: DatasetFacts, *, scratch: bool | None = None) -> int:
    """So many that the recipe's number of images is seen; from scratch, as the entry says unless told otherwise, more."""
    recipe = RECIPES[spec.recipe]
    scratch = spec.pretraining == "none" if scratch is None else scratch
    factor = recipe.scratch_factor if scratch else 1.0
    most = recipe.most_epochs * (2 if scratch else 1)
    return int(min(max(round(recipe.images_seen * factor / facts.training), recipe.fewest_epochs), most, 200))
