"""Hyperparameters: every field with its label, hint, default and range; parsing of what people type; and the plan a job trains by."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field

from core.errors import InvalidInputError

Auto = Literal["auto"]


@dataclass(frozen=True)
class FieldText:
    """How a field is shown: its group, label, hint and unit."""

    group: str
    label: str
    hint: str
    unit: str = ""


BoundedBatch = Annotated[int, Field(ge=1, le=4096)]
BoundedSide = Annotated[int, Field(ge=32, le=1024)]


class Hyperparameters(BaseModel):
    """What a person may enter for manual training. Ranges and defaults are those of the reference flow."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch_size: Annotated[
        BoundedBatch | Auto, FieldText("Data loader", "Batch size", "Images per step; auto takes what fits the device")
    ] = 32
    epochs: Annotated[int, FieldText("Data loader", "Training epochs", "Passes over the training images")] = Field(100, ge=1, le=200)
    validation_percent: Annotated[
        int, FieldText("Data loader", "Validation data percentage", "Share of the images kept back to judge the model", "%")
    ] = Field(20, ge=1, le=99)
    image_size: Annotated[
        BoundedSide | Auto,
        FieldText("Data loader", "Input size", "Side of the square the network sees; auto follows your images and the network", "px"),
    ] = "auto"
    seed: Annotated[int, FieldText("Data loader", "Seed", "The same seed splits and trains the same way again")] = Field(
        0, ge=0, le=2**31 - 1
    )
    learning_rate: Annotated[
        float, FieldText("Manual assignment", "Learning rate", "Size of each step; too high diverges, too low crawls")
    ] = Field(0.001, ge=0.000001, le=1)
    learning_rate_schedule: Annotated[
        Literal["constant", "step", "cosine", "one-cycle"],
        FieldText("Manual assignment", "Learning-rate schedule", "How the learning rate changes over time"),
    ] = "constant"
    weight_decay: Annotated[float, FieldText("Manual assignment", "Weight decay", "Pulls weights towards zero against overfitting")] = (
        Field(0, ge=0, le=0.1)
    )
    momentum: Annotated[float, FieldText("Manual assignment", "Momentum", "How much of the last step is kept")] = Field(0.9, ge=0, le=0.99)
    early_stop: Annotated[bool, FieldText("Manual assignment", "Early stop", "Stop when neither validation loss nor score gets better")] = (
        True
    )
    horizontal_flip: Annotated[bool, FieldText("Augmentation", "Random horizontal flip", "Mirror half of the images (probability 0.5)")] = (
        True
    )
    resized_crop: Annotated[bool, FieldText("Augmentation", "Random resized crop", "Show random parts of the image at random scale")] = True
    translation: Annotated[bool, FieldText("Augmentation", "Random translation", "Shift the image")] = True
    translation_percent: Annotated[int, FieldText("Augmentation", "Translation range", "Largest shift, as a share of the side", "%")] = (
        Field(5, ge=0, le=20)
    )
    rotation: Annotated[bool, FieldText("Augmentation", "Random rotation", "Turn the image")] = True
    rotation_degrees: Annotated[int, FieldText("Augmentation", "Rotation range", "Largest turn to either side", "°")] = Field(
        180, ge=0, le=180
    )
    colour_jitter: Annotated[bool, FieldText("Augmentation", "Colour jitter", "Vary the colours")] = True
    brightness: Annotated[float, FieldText("Augmentation", "Brightness", "Largest relative change")] = Field(0.1, ge=0, le=1)
    contrast: Annotated[float, FieldText("Augmentation", "Contrast", "Largest relative change")] = Field(0.1, ge=0, le=1)
    saturation: Annotated[float, FieldText("Augmentation", "Saturation", "Largest relative change")] = Field(0.1, ge=0, le=1)
    hue: Annotated[float, FieldText("Augmentation", "Hue", "Largest shift, as a share of the colour circle")] = Field(0.1, ge=0, le=0.5)


class TrainingPlan(Hyperparameters):
    """Everything a job trains by, complete: the person's hyperparameters, or a family's recipe with the person's changes.

    `auto` may remain for `batch_size` only (it depends on the device). Manual training is plain SGD as typed: the defaults below.
    """

    image_size: int = Field(224, ge=32, le=1024)
    optimizer: Literal["sgd", "adamw"] = "sgd"
    warmup_epochs: float = Field(0, ge=0)
    label_smoothing: float = Field(0, ge=0, lt=1)
    ema_decay: float = Field(0, ge=0, lt=1, description="Exponential moving average of the weights; 0 is none")
    layer_decay: float = Field(
        1,
        gt=0,
        le=1,
        description="Learning rate factor per layer away from the head (BEiT, Bao et al. 2021), of 13 layers; of more, less a layer",
    )
    backbone_factor: float = Field(
        1, gt=0, le=1, description="Learning rate factor of the backbone, where heads for boxes, masks or regions are over it"
    )
    frozen_statistics: bool = Field(False, description="Batch norms keep the mean and variance that they were pre-trained with")
    exclusive_regions: bool | None = Field(
        None, description="Whether a place belongs to one class of regions at most; without a word as the masks have it"
    )
    gradient_clip: float = Field(0, ge=0, description="Largest norm of the gradient; 0 is no limit")
    class_balance: float = Field(
        0,
        ge=0,
        le=1,
        description="How much rare classes count for more: an image weighs as (images of its class) to the power of −this; with several labels, "
        "where it shows a class, as (images without it / images with it) to the power of this",
    )
    patience: int = Field(10, ge=1, description="Early stop after so many epochs without a lower validation loss or a better score")
    parts: int = Field(
        1, ge=1, description="A batch goes through the network in so many times the parts; doubled where the system has killed the training"
    )


@dataclass(frozen=True)
class HyperparameterField:
    """One field as a form shows it. `kind` is integer, number, toggle, choice; where a tuning searches, `values` or `range` of numbers.

    `most` is how many values may be given.
    """

    name: str
    kind: str
    group: str
    label: str
    hint: str
    unit: str
    default: Any
    minimum: float | None
    maximum: float | None
    choices: tuple[str, ...]
    allows_auto: bool
    most: int = 1

    @property
    def range_text(self) -> str:
        """The allowed values in words, such as `an integer from 1 to 200`."""
        if self.kind == "toggle":
            return "on or off"
        if self.kind == "choice":
            return "one of " + ", ".join(self.choices)
        if self.kind == "values":
            return f"up to {self.most} numbers from {_plain(self.minimum)} to {_plain(self.maximum)}, separated by commas"
        if self.kind == "range":
            return f"lowest..highest, both numbers from {_plain(self.minimum)} to {_plain(self.maximum)}"
        noun = "an integer" if self.kind == "integer" else "a number"
        text = f"{noun} from {_plain(self.minimum)} to {_plain(self.maximum)}"
        return f"auto, or {text}" if self.allows_auto else text

    def write(self, value: Any) -> str:
        """A value as people write it, such as `0.001`, `0.001, 0.01` or `0.0001..0.1`."""
        if isinstance(value, (list, tuple)):
            return (".." if self.kind == "range" else ", ").join(value_text(item) for item in value)
        return value_text(value)

    def parse(self, given: Any) -> Any:
        """The typed value of what was given, text or value; a list of numbers for `values`, [lowest, highest] for `range`.

        Raises:
            FieldError: when it is not one of the allowed values.
        """
        text = (self.write(given) if isinstance(given, (list, tuple)) else str(given)).strip().lower()
        if self.kind in ("values", "range"):
            numbers = self._numbers(text)
            if numbers is not None:
                return numbers
        elif self.kind == "toggle":
            if text in ("on", "true", "yes", "1"):
                return True
            if text in ("off", "false", "no", "0"):
                return False
        elif self.kind == "choice":
            if text in self.choices:
                return text
        elif self.allows_auto and text == "auto":
            return "auto"
        else:
            value = _number(text, whole=self.kind == "integer")
            if value is not None and self.minimum is not None and self.maximum is not None and self.minimum <= value <= self.maximum:
                return value
        raise FieldError(self, given)

    def _numbers(self, text: str) -> list[float] | None:
        """Different values in the order given, or the two ends of a range (one number is both); None where they are not allowed."""
        parts = re.split(r"\.\.+|…", text) if self.kind == "range" else [part for part in re.split(r"[,;\s]+", text) if part]
        numbers = [_number(part.strip(), whole=False) for part in parts]
        low, high = self.minimum, self.maximum
        if low is None or high is None or not all(number is not None and low <= number <= high for number in numbers):
            return None
        values = list(dict.fromkeys(float(number) for number in numbers if number is not None))
        if self.kind == "values":
            return values if 1 <= len(values) <= self.most else None
        return [values[0], values[-1]] if len(numbers) <= 2 and values[0] <= values[-1] else None


class FieldError(InvalidInputError):
    """One field was given a value that it does not take."""

    def __init__(self, field: HyperparameterField, given: Any) -> None:
        shown = str(given).strip()
        shown = shown[:60] + "…" if len(shown) > 60 else shown
        super().__init__(f"{field.label} ({field.name}) takes {field.range_text}; “{shown}” was given.")
        self.field = field
        self.given = given


class RefusedFieldsError(InvalidInputError):
    """Several fields were given values that they do not take; `errors` by field name."""

    def __init__(self, errors: Mapping[str, FieldError]) -> None:
        super().__init__(" ".join(error.what for error in errors.values()))
        self.errors = dict(errors)


def _plain(number: float | None) -> str:
    if number is None:
        return ""
    return f"{number:.10f}".rstrip("0").rstrip(".") if isinstance(number, float) else str(number)


def _number(text: str, *, whole: bool) -> int | float | None:
    try:
        if whole:
            return int(text)
        value = float(text.replace(",", "."))
    except ValueError:
        return None
    return value if value == value and abs(value) != float("inf") else None


def _describe(name: str) -> HyperparameterField:
    info = Hyperparameters.model_fields[name]
    text = next(item for item in info.metadata if isinstance(item, FieldText))
    annotation: Any = info.annotation
    bounds: Iterable[Any] = info.metadata
    allows_auto = get_origin(annotation) not in (None, Literal)  # the union of a number and "auto"
    if allows_auto:
        annotation, field_info = get_args(get_args(annotation)[0])
        bounds = field_info.metadata
    choices: tuple[str, ...] = get_args(annotation) if get_origin(annotation) is Literal else ()
    return HyperparameterField(
        name=name,
        kind="choice" if choices else {bool: "toggle", int: "integer", float: "number"}[annotation],
        group=text.group,
        label=text.label,
        hint=text.hint,
        unit=text.unit,
        default=info.default,
        minimum=next((bound.ge for bound in bounds if hasattr(bound, "ge")), None),
        maximum=next((bound.le for bound in bounds if hasattr(bound, "le")), None),
        choices=choices,
        allows_auto=allows_auto,
    )


FIELDS: dict[str, HyperparameterField] = {name: _describe(name) for name in Hyperparameters.model_fields}
AUGMENTATION = tuple(name for name, field in FIELDS.items() if field.group == "Augmentation")


def parse_fields(given: Mapping[str, Any], fields: Mapping[str, HyperparameterField] = FIELDS) -> dict[str, Any]:
    """Typed values of the fields given by name; only those.

    Raises:
        InvalidInputError: for a name that is no hyperparameter.
        RefusedFieldsError: for every value out of its range, all at once.
    """
    values: dict[str, Any] = {}
    errors: dict[str, FieldError] = {}
    for name, text in given.items():
        if name not in fields:
            near = get_close_matches(name, fields, n=1)
            raise InvalidInputError(
                f"There is no hyperparameter “{name[:60]}”." if name else "--set takes key=value; the key is missing.",
                (f"Did you mean {near[0]}? " if near else "") + "There are: " + ", ".join(fields) + ".",
            )
        try:
            values[name] = fields[name].parse(text)
        except FieldError as error:
            errors[name] = error
    if errors:
        raise RefusedFieldsError(errors)
    return values


def value_text(value: Any) -> str:
    """A hyperparameter as people write it: on, off, 0.001, auto; – where there is none."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:.8f}".rstrip("0").rstrip(".") if value else "0"
    return str(value)


def has_effect(name: str, plan: Mapping[str, Any]) -> bool:
    """Whether a hyperparameter means anything beside the others: how far to rotate does not where nothing is rotated."""
    if name == "momentum":
        return bool(plan.get("optimizer", "sgd") == "sgd")
    wanted = {"rotation_degrees": "rotation", "translation_percent": "translation", "patience": "early_stop"}
    wanted |= dict.fromkeys(("brightness", "contrast", "saturation", "hue"), "colour_jitter")
    return bool(plan.get(wanted[name], True)) if name in wanted else True
