"""The recipe of each network family, and the plan that a job trains by: recipe and data for *auto*, what was typed for *manual*."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from core.errors import InvalidInputError
from core.tasks.hyperparameters import Hyperparameters, TrainingPlan, parse_fields
from core.vocabulary import DataType, TaskType
from core.zoo.facts import DatasetFacts
from core.zoo.spec import ModelSpec


@dataclass(frozen=True)
class Recipe:
    """How a family is fine-tuned. `learning_rate` holds at `batch_size`; `images_seen` is how many images a fine-tuning looks at in all on a CPU.

    From scratch it looks at `scratch_factor` times as many, at `scratch_learning_rate`; on a GPU at `ON_GPU` times as many. Networks of more than
    `measured_parameters`, where there are any, take less: of AdamW's rates the best falls with a network's width, as the square root of its parameters
    (Yang et al. 2022, “Tensor Programs V”).
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
    backbone_factor: float = 1.0
    gradient_clip: float = 0.0
    frozen_statistics: bool = False  # of pre-trained networks
    ema_decay: float = 0.0
    measured_parameters: float = math.inf
    whole_factor: float = 1.0  # of the learning rate where the whole network is pre-trained on such tasks, not its backbone alone
    fewest_epochs: int = 5
    most_epochs: int = 60


# AdamW throughout: within a few epochs it needs less care than SGD. Rates: 2e-3 for batch-normalised convolutional networks of lite0's size. ConvNeXt's and
# ViT's authors fine-tune at 5e-5 … 5e-4 with layer-wise decay (Liu et al. 2022, appendix A.3; Bao et al. 2021), for tens of epochs of ImageNet; in
# the few hundred steps of a fine-tuning here 3e-4 stops short. `benchmarks/evidence_recipes.py` has TinyViT, with MobileSAM's weights, at 66 % with
# 3e-4, 83 % with 9e-4 and 87 % with 3e-3, ConvNeXt at 83, 90 and 92 %; layer-wise decay serves photographs, which the weights know, and costs
# digits nothing. 2e-3 at the size measured comes to 5e-4 for ViT-B and 3e-4 for ViT-L, which were not measured.
RECIPES: dict[str, Recipe] = {
    "convolutional": Recipe(
        "adamw", 2e-3, 2e-3, 0.05, batch_size=64, images_seen=24_000, scratch_factor=6, label_smoothing=0.1, measured_parameters=6e6
    ),
    # AlexNet, SqueezeNet and VGG as they were before batch normalisation: at 2e-3 they learn nothing.
    "plain-convolutional": Recipe(
        "adamw",
        3e-4,
        3e-4,
        0.05,
        batch_size=64,
        images_seen=24_000,
        scratch_factor=6,
        label_smoothing=0.1,
        gradient_clip=1.0,
        measured_parameters=6e6,
    ),
    "modern-convolutional": Recipe(
        "adamw",
        2e-3,
        1e-3,
        0.05,
        batch_size=64,
        images_seen=20_000,
        scratch_factor=5,
        label_smoothing=0.1,
        layer_decay=0.8,
        gradient_clip=1.0,
        measured_parameters=6e6,
    ),
    "transformer": Recipe(
        "adamw",
        2e-3,
        5e-4,
        0.05,
        batch_size=64,
        images_seen=20_000,
        scratch_factor=6,
        label_smoothing=0.1,
        layer_decay=0.75,
        gradient_clip=1.0,
        measured_parameters=6e6,
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
        frozen_statistics=True,
        measured_parameters=6e6,
        whole_factor=0.3,
        fewest_epochs=8,
        most_epochs=80,
    ),
    # Over ConvNeXt, CAFormer and PVT. Their authors take 1e-4 to 2e-4 in batches of 16 (Liu et al. 2022, appendix A.3; Wang et al. 2021), which
    # the square-root rule makes 1e-4 in batches of 4 at most, for a dozen epochs of COCO. Of 1,000 scenes Faster R-CNN over ConvNeXt-atto had an AP 50
    # of 0.08 after two epochs at 1e-4, and of 0.27 at 1e-3. Half of that, for auto trains ten times as long: 2e-4 over ConvNeXt-tiny.
    "modern-detector": Recipe(
        "adamw",
        5e-4,
        5e-4,
        0.05,
        batch_size=4,
        images_seen=16_000,
        scratch_factor=4,
        gradient_clip=1.0,
        frozen_statistics=True,
        measured_parameters=6e6,
        whole_factor=0.3,
        fewest_epochs=8,
        most_epochs=80,
    ),
    # Their authors fine-tune at 1e-4 in batches of 16 (Zhao et al. 2024) and at 1e-4 to 2.5e-4 of 32 (Peng et al. 2024), for many epochs. D-FINE-nano,
    # which had learnt to find letters (`benchmarks/evidence_detection_parents.py`), had on 1,000 scenes of digits an AP of 0.60 after three epochs at
    # 1e-4, 0.76 at 3e-4, 0.78 at 5e-4, 0.80 at 1e-3 and 0.78 at 2e-3. Half of the best, for auto trains ten times as long. The backbone's share
    # of the rate made no difference (0.78 with 0.3, 0.79 with all of it), nor did frozen statistics (0.77): 0.3 is in the middle of the authors' own.
    "detection-transformer": Recipe(
        "adamw",
        5e-4,
        2e-4,
        0.0001,
        batch_size=8,
        images_seen=24_000,
        scratch_factor=8,
        gradient_clip=0.1,
        backbone_factor=0.3,
        measured_parameters=4e6,
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
        measured_parameters=6e6,
        whole_factor=0.3,
        fewest_epochs=8,
        most_epochs=80,
    ),
    # Over ConvNeXt, CAFormer and PVT. Their authors take 1e-4 in batches of 16 (Liu et al. 2022, appendix A.3; Wang et al. 2022), for 160,000 steps.
    # Of 1,000 scenes a feature pyramid on ConvNeXt-nano, the smallest of them, had a mean Dice of 0.02 after three epochs at 2e-4, of 0.26 after
    # eight at 6e-4, of 0.34 at 2e-3 and of 0.35 at 4e-3. Half of 2e-3, for better weights than could be made there have less to learn.
    "modern-segmenter": Recipe(
        "adamw",
        1e-3,
        5e-4,
        0.05,
        batch_size=8,
        images_seen=12_000,
        scratch_factor=4,
        gradient_clip=1.0,
        measured_parameters=17e6,
        whole_factor=0.3,
        fewest_epochs=8,
        most_epochs=80,
    ),
}

# Small images are scaled up, because a stride of 32 would leave a 28 px digit a single position. Measured on the 5,000 digits (two cores, lite0 at
# 48 px, batch 64, AdamW, cosine, warm-up of 6 %, new outputs from near zero): 2e-3 and 6 epochs end at 98.7 % (seed 0), 1e-3 and 5 epochs at 97.9 to
# 98.8 % (seeds 0 to 2); 64 px gain nothing in the same time, nor does an average of the weights (EMA) in trainings this short.
SMALLEST_SIDE = 48
UPSCALE = 1.75
SIDE_STEP = 16
# Fine-tuning gains from more than a CPU can show in a sitting; on a GPU three times as many are still minutes. Kornblith et al. (2019) let
# networks see 5 million images, BiT (Kolesnikov et al. 2020) 256,000 of a set of less than 20,000.
ON_GPU = 3
# From scratch nothing is known yet: a few passes are too few, however many images there are. torchvision's references take 90 to 600.
SCRATCH_EPOCHS = 20
# Of classifiers each class is seen so often on the average, which takes more epochs from 400 or 480 classes up. Of 5,000 images of a thousand classes lite0
# had 90.3 % of numbers and 70.0 % of places right with 25 views of a class, 95.2 and 79.7 % with 50; 75 (places alone) made 82.1 %, for half as long again.
# Labels alone are not what counts: of the same places in a hundred mixed classes, 250 views each, twice the epochs made as much of a difference. But a
# thousand classes are at least a thousand things to tell apart, and of few there was little to gain (`benchmarks/evidence_epochs.py`, one seed).
VIEWS_OF_A_CLASS = 50
# Where the commonest class has so many times the images of the rarest, rare ones count for more in the loss: by the square root of their rarity,
# half way between no weights and weights that would let each class count the same (Mahajan et al. 2018 resample by the square root).
IMBALANCE = 10
CLASS_BALANCE = 0.5
# Recipes of networks that answer with places: their images are scenes, whose objects are smaller than they.
REGIONS = ("segmenter", "modern-segmenter")
DETECTORS = ("detector", "modern-detector")
PLACES = (*DETECTORS, "detection-transformer", *REGIONS)
SMALLEST_SCENE = 128
SMALLEST_OBJECT = 16
# Of large images with small objects more is seen than the network's own side: the object in the middle keeps so many pixels, as long as the
# image has them and the side stays within what anybody may type. COCO calls what is below 32 px small, and all detectors find half of it only.
KEPT_OBJECT = 24
TINY_OBJECT = 12  # px; the finest anchors of the detectors here reach down to about so much
LARGEST_SCENE = 1024

# Boxes are placed better in images scaled up: Faster R-CNN on lite0 had an AP of 0.735 on 1,000 scenes at their own side of 160 px and of 0.763 at
# 256, in 1.7 times the processor time, which a GPU has. torchvision's detectors learnt COCO so, from 640 × 480 px at 800 on the shorter side.
BOXES_ON_GPU = 1.6

# What cannot change a label, whatever the images show: a mirrored or turned digit is another digit.
SMALL_SHIFTS: dict[str, Any] = {
    "horizontal_flip": False,
    "resized_crop": False,
    "translation": True,
    "translation_percent": 5,
    "rotation": False,
    "colour_jitter": False,
}
_LIGHT = {"colour_jitter": True, "brightness": 0.2, "contrast": 0.2}
# What besides cannot where somebody has said what the images show. Left and right are alike in photographs, as torchvision's references have it
# for all tasks, and no side is up under a microscope or from above; in a body left and right are not, and light is measured.
BY_DATA_TYPE: dict[DataType, dict[str, Any]] = {
    DataType.PHOTO: {"horizontal_flip": True, "saturation": 0.2, "hue": 0.0, **_LIGHT},
    DataType.MICROSCOPY: {"horizontal_flip": True, "rotation": True, "rotation_degrees": 180, "saturation": 0.2, "hue": 0.02, **_LIGHT},
    DataType.AERIAL: {"horizontal_flip": True, "rotation": True, "rotation_degrees": 180, "saturation": 0.2, "hue": 0.0, **_LIGHT},
    DataType.FUNDUS: {"horizontal_flip": True, "rotation": True, "rotation_degrees": 15, "saturation": 0.1, "hue": 0.0, **_LIGHT},
    DataType.CT: {"rotation": True, "rotation_degrees": 7},
    DataType.MRI: {"rotation": True, "rotation_degrees": 7},
    DataType.X_RAY: {"rotation": True, "rotation_degrees": 7},
}


def augmentation(task_type: TaskType, data_type: DataType) -> dict[str, Any]:
    """The augmentation of *auto*, as hyperparameters, for images of which somebody has said what they show.

    Photographs with one label are cropped, for their one subject fills them; where several things are to be found a crop would lose some.
    Boxes are not turned far: around a turned object they are larger than it.
    """
    values = SMALL_SHIFTS | BY_DATA_TYPE.get(data_type, {})
    if data_type is DataType.PHOTO and task_type is TaskType.SINGLE_LABEL:
        values |= {"resized_crop": True, "translation": False}
    if task_type is TaskType.OBJECT_DETECTION and values.get("rotation_degrees", 0) > 15:
        values |= {"rotation": False}
    return values


def auto_plan(
    spec: ModelSpec,
    task_type: TaskType,
    facts: DatasetFacts,
    overrides: Mapping[str, Any] | None = None,
    seed: int = 0,
    *,
    data_type: DataType = DataType.OTHER,
    device: str = "cpu",
    learns_on: bool = False,
) -> TrainingPlan:
    """The family's recipe fitted to the data and to the kind of `device` (cpu, cuda, mps), with what the person insisted on.

    Where a finished model `learns_on`, the whole network has learnt such a task already, whatever it once began from.

    Raises:
        InvalidInputError: for an override out of its range, or an image size that the network does not take.
    """
    given = parse_fields(overrides or {})
    facts = replace(facts, validation_percent=given.get("validation_percent", facts.validation_percent))
    recipe = RECIPES[spec.recipe]
    scratch = spec.pretraining == "none" and not learns_on
    usual = auto_batch_size(spec, facts.training)
    batch_size = given.get("batch_size", usual)
    epochs = given.get("epochs") or auto_epochs(spec, facts, device, scratch=scratch)
    rate = recipe.scratch_learning_rate
    if not scratch:
        rate = recipe.learning_rate * min(1.0, (recipe.measured_parameters / max(1, spec.parameters)) ** 0.5)
        rate *= recipe.whole_factor if learns_on or is_whole(spec) else 1.0
    # The square-root rule for Adam (Malladi et al. 2022); what a worker makes of `auto` has at most this size.
    factor = ((batch_size if isinstance(batch_size, int) else usual) / recipe.batch_size) ** 0.5
    values: dict[str, Any] = {
        "batch_size": batch_size,
        "epochs": epochs,
        "learning_rate": float(f"{rate * factor:.3g}"),
        "learning_rate_schedule": "cosine",
        "weight_decay": recipe.weight_decay,
        "early_stop": True,
        "patience": max(5, epochs // 3),
        **augmentation(task_type, data_type),
        "optimizer": recipe.optimizer,
        "warmup_epochs": round(min(2.0, epochs * recipe.warmup_share), 2),
        "label_smoothing": recipe.label_smoothing if task_type is TaskType.SINGLE_LABEL else 0.0,
        "ema_decay": recipe.ema_decay,
        "class_balance": CLASS_BALANCE if task_type in (TaskType.SINGLE_LABEL, TaskType.MULTI_LABEL) and is_imbalanced(facts) else 0.0,
        "layer_decay": 1.0 if scratch else recipe.layer_decay,
        "backbone_factor": 1.0 if scratch else recipe.backbone_factor,
        "gradient_clip": recipe.gradient_clip,
        "frozen_statistics": recipe.frozen_statistics and not scratch,
        "seed": seed,
    }
    values |= given
    values["image_size"] = resolve_image_size(spec, facts, given.get("image_size", "auto"), device)
    return TrainingPlan(**values)


def is_imbalanced(facts: DatasetFacts) -> bool:
    """Whether some class has far more images than another."""
    return facts.largest_class > IMBALANCE * max(1, facts.smallest_class)


def is_whole(spec: ModelSpec) -> bool:
    """Whether the weights are of the whole network, not of its backbone alone: those for places are pre-trained on COCO."""
    return spec.pretrained_on.startswith("COCO")


def manual_plan(spec: ModelSpec, facts: DatasetFacts, hyperparameters: Hyperparameters, *, learns_on: bool = False) -> TrainingPlan:
    """Exactly what the person typed, by SGD; an image size of `auto` is settled here (a batch size of `auto` when the device is known).

    Of the recipe it has what no form asks for and no schedule depends on: whether batch statistics stay frozen, as of all that is pre-trained, or
    where a finished model `learns_on`.

    Raises:
        InvalidInputError: when the network does not take the image size.
    """
    values = hyperparameters.model_dump()
    values["image_size"] = resolve_image_size(spec, facts, hyperparameters.image_size)
    values["frozen_statistics"] = RECIPES[spec.recipe].frozen_statistics and (learns_on or spec.pretraining != "none")
    return TrainingPlan(**values)


def size_refusal(spec: ModelSpec, asked: int | str) -> str:
    """Why the network does not take a side in pixels, as a sentence; empty where it does, as with `auto`."""
    if not isinstance(asked, int) or spec.accepts_size(asked):
        return ""
    return f"Input size (image_size): {spec.network} takes {spec.sizes_text}; “{asked}” was given."


def resolve_image_size(spec: ModelSpec, facts: DatasetFacts, asked: int | str, device: str = "cpu") -> int:
    """The side in pixels: the one asked for, or for `auto` one that follows the images, the network, and the kind of `device`.

    Raises:
        InvalidInputError: when the network does not take the side asked for.
    """
    if isinstance(asked, int):
        if refusal := size_refusal(spec, asked):
            raise InvalidInputError(refusal, "Enter such a size, or auto.")
        return asked
    if spec.fixed_size:
        return spec.input_size
    longest = max(facts.width, facts.height) or spec.input_size
    step = spec.size_multiple if spec.size_multiple >= SIDE_STEP else -(-SIDE_STEP // spec.size_multiple) * spec.size_multiple
    smallest = -(-spec.min_size // spec.size_multiple) * spec.size_multiple
    wanted = (
        max(SMALLEST_SIDE, UPSCALE * longest)
        if spec.recipe not in PLACES
        else max(SMALLEST_SCENE, _scene_upscale(spec, facts, longest, device) * longest)
    )
    if (
        spec.recipe in PLACES
        and facts.object_side * spec.input_size < KEPT_OBJECT
        and (kept := _keeping_objects(facts, longest, step)) > spec.input_size
    ):
        return kept
    # Larger images are shrunk to the network's own side; smaller ones get the nearest step, where the network takes it.
    return spec.input_size if wanted >= spec.input_size else max(round(wanted / step) * step, smallest)


def tiny_objects_text(facts: DatasetFacts, image_size: int) -> str:
    """What to know where half of the objects are too small to be found at that input size, and what to do; empty where they are not."""
    seen = facts.object_side * image_size
    if not 0 < seen < TINY_OBJECT:
        return ""
    larger = "choose a larger input size (manual tuning takes up to 1,024 px), or " if image_size < LARGEST_SCENE else ""
    return (
        f"At an input size of {image_size} px half of the objects are less than {math.ceil(seen)} px large: few of those will be found. "
        f"To find them, {larger}cut the images into tiles before they are imported."
    )


def _keeping_objects(facts: DatasetFacts, longest: int, step: int) -> int:
    """The side at which the object in the middle has `KEPT_OBJECT` pixels, or the most that there are; 0 where nothing is known of objects."""
    wanted = min(KEPT_OBJECT / facts.object_side, longest) if facts.object_side else 0
    return min(math.ceil(wanted / step), LARGEST_SCENE // step) * step


def _scene_upscale(spec: ModelSpec, facts: DatasetFacts, longest: int, device: str) -> float:
    """Objects of a few pixels vanish between the strides of a detector: such images are doubled."""
    if longest < SMALLEST_SCENE or 0 < facts.object_side * longest < SMALLEST_OBJECT:
        return 2.0
    return 1.0 if device == "cpu" or spec.recipe in REGIONS else BOXES_ON_GPU


def auto_batch_size(spec: ModelSpec, training: int) -> int:
    """The recipe's, less for few images to train on, so that an epoch has some ten steps; more for many, where steps are plenty."""
    size = recommended = RECIPES[spec.recipe].batch_size
    if spec.recipe in PLACES and training > 10_000:
        return size * 2
    while size > 4 and training < size * 10:
        size //= 2
    return size * 2 if training > 50_000 and recommended >= 64 else size


def auto_epochs(spec: ModelSpec, facts: DatasetFacts, device: str = "cpu", *, scratch: bool | None = None) -> int:
    """So many that the recipe's number of images is seen; from scratch, as the entry says unless told otherwise, more, and on a GPU.

    Of classifiers with many classes, so many that each is seen often enough.
    """
    recipe = RECIPES[spec.recipe]
    scratch = spec.pretraining == "none" if scratch is None else scratch
    factor = (recipe.scratch_factor if scratch else 1.0) * (1 if device == "cpu" else ON_GPU)
    fewest = max(recipe.fewest_epochs, SCRATCH_EPOCHS) if scratch else recipe.fewest_epochs
    most = recipe.most_epochs * (2 if scratch else 1)
    seen = max(recipe.images_seen * factor, 0 if spec.recipe in PLACES else VIEWS_OF_A_CLASS * facts.classes)
    return int(min(max(round(seen / facts.training), fewest), most, 200))
