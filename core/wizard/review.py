"""A job's complete plan in words: the same in the wizard's review, in a task's details and on the command line."""

from core.tasks.hyperparameters import TrainingPlan, value_text
from core.wizard.screens import Facts

OPTIMIZERS = {"sgd": "SGD", "adamw": "AdamW"}


def plan_facts(plan: TrainingPlan) -> tuple[Facts, ...]:
    """Training and augmentation, every value that is in force."""
    training = [
        ("Input size", f"{plan.image_size} × {plan.image_size} px"),
        ("Batch size", "auto: what fits the device" if plan.batch_size == "auto" else str(plan.batch_size)),
        ("Epochs", f"{plan.epochs}" + (", fewer if the validation loss stops falling" if plan.early_stop else "")),
        ("Validation images", f"{plan.validation_percent} %"),
        ("Optimizer", OPTIMIZERS[plan.optimizer] + (f", momentum {value_text(plan.momentum)}" if plan.optimizer == "sgd" else "")),
        (
            "Learning rate",
            f"{value_text(plan.learning_rate)}, {plan.learning_rate_schedule}"
            + (f", {value_text(plan.warmup_epochs)} epochs warm-up" if plan.warmup_epochs else ""),
        ),
        ("Weight decay", value_text(plan.weight_decay)),
    ]
    if plan.label_smoothing:
        training.append(("Label smoothing", value_text(plan.label_smoothing)))
    if plan.ema_decay:
        training.append(("Weight averaging", f"exponential, {value_text(plan.ema_decay)}"))
    if plan.layer_decay < 1:
        training.append(("Layer-wise learning rate decay", value_text(plan.layer_decay)))
    training.append(("Seed", str(plan.seed)))
    return Facts(tuple(training), title="Training"), Facts((("Random changes", augmentation_text(plan)),), title="Augmentation")


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
