"""A job's complete plan in words, and what a search tries: the same in the wizard's review and in a task's details."""

from core.tasks.hyperparameters import TrainingPlan, value_text
from core.tuning.population import slice_epochs
from core.tuning.search import Search, search_rows
from core.vocabulary import Tuning
from core.wizard.screens import Facts

OPTIMIZERS = {"sgd": "SGD", "adamw": "AdamW"}


def search_facts(plan: TrainingPlan, search: Search | None) -> tuple[Facts, ...]:
    """What a task's jobs train by: of a search what is tried, and then what is the same for all; else the one job's plan.

    `plan` is that of any of the jobs.
    """
    if search is None:
        return plan_facts(plan)
    tried = Facts(search_rows(search), title="What is tried")
    return (tried, Facts(_training(plan, search), title="The same for every job"), _augmentation(plan))


def plan_facts(plan: TrainingPlan) -> tuple[Facts, ...]:
    """Training and augmentation, every value that is in force."""
    return Facts(_training(plan), title="Training"), _augmentation(plan)


def _training(plan: TrainingPlan, search: Search | None = None) -> tuple[tuple[str, str], ...]:
    """Every value but those of the augmentation; of a search's jobs those that they share."""
    schedule = plan.learning_rate_schedule
    warmup = f", {value_text(plan.warmup_epochs)} epochs warm-up" if plan.warmup_epochs else ""
    fewer = "if neither validation loss nor score gets better" + (", or where a job falls far behind" if search is not None else "")
    rows = [
        ("Input size", f"{plan.image_size} × {plan.image_size} px"),
        ("Batch size", "auto: what fits the device" if plan.batch_size == "auto" else str(plan.batch_size)),
        ("Epochs", f"{plan.epochs}" + (f", fewer {fewer}" if plan.early_stop else "")),
        ("Validation images", f"{plan.validation_percent} %, unless the dataset says which"),
    ]
    if search is None:
        momentum = f", momentum {value_text(plan.momentum)}" if plan.optimizer == "sgd" else ""
        rows += [
            ("Optimizer", OPTIMIZERS[plan.optimizer] + momentum),
            ("Learning rate", f"{value_text(plan.learning_rate)}, {schedule}{warmup}"),
            ("Weight decay", value_text(plan.weight_decay)),
        ]
    else:
        rows += [("Optimizer", OPTIMIZERS[plan.optimizer]), ("Learning-rate schedule", f"{schedule}{warmup}")]
    if search is not None and search.tuning == Tuning.POPULATION:
        length = slice_epochs(plan.epochs)
        rows.append(("Members compare", "after every epoch" if length == 1 else f"after every {length} epochs"))
    if plan.label_smoothing:
        rows.append(("Label smoothing", value_text(plan.label_smoothing)))
    if plan.ema_decay:
        rows.append(("Weight averaging", f"exponential, {value_text(plan.ema_decay)}"))
    if plan.layer_decay < 1:
        rows.append(("Layer-wise learning rate decay", value_text(plan.layer_decay)))
    rows.append(("Seed", str(plan.seed)))
    return tuple(rows)


def _augmentation(plan: TrainingPlan) -> Facts:
    return Facts((("Random changes", augmentation_text(plan)),), title="Augmentation")


def augmentation_text(plan: TrainingPlan) -> str:
    """The augmentations that are on, with their ranges, in one line."""
    parts = []
    if plan.horizontal_flip:
        parts.append("horizontal flip")
    if plan.resized_crop:
        parts.append("resized crop")
    if plan.translation and plan.translation_percent:
        parts.append(f"translation up to {plan.translation_percent} %")
    if plan.rotation and plan.rotation_degrees:
        parts.append(f"rotation up to {plan.rotation_degrees}°")
    if plan.colour_jitter:
        values = [(name, getattr(plan, name)) for name in ("brightness", "contrast", "saturation", "hue")]
        parts.append("colour jitter (" + ", ".join(f"{name} {value_text(value)}" for name, value in values) + ")")
    return ", ".join(parts) if parts else "none"
