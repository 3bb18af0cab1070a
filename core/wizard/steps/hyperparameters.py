"""Tuning: we tune, or the person types every hyperparameter, or says what is to be tried."""

from collections.abc import Mapping

from core.errors import InvalidInputError, StationmasterError
from core.tasks.hyperparameters import FIELDS, FieldError, HyperparameterField
from core.tuning.search import FORM_FIELDS, SEARCH_FIELDS, SEARCHES, fields_of, grid_refusal, made, product_text
from core.vocabulary import Tuning
from core.wizard.composition import chosen_spec
from core.wizard.context import StepContext
from core.wizard.draft import Choices
from core.wizard.screens import Block, Control, Facts, Field, Form, Menu, Option, OptionPage, Text, Tone
from core.wizard.steps.step import FIRST_OPTIONS, Input, View, count, matching
from core.zoo.recipes import size_refusal
from core.zoo.spec import ModelSpec

OFFERED = {
    Tuning.AUTO: ("Auto", "We tune for you: the network family's proven recipe, and no change to your images that could alter a label."),
    Tuning.MANUAL: ("Manual", "You set every hyperparameter and the augmentation: one training job with SGD, exactly as typed."),
    Tuning.GRID: ("Grid search", "1–48 jobs: up to six learning rates, weight decays and momenta, each with each of the others."),
    Tuning.RANDOM: ("Random search", "8–48 jobs, each with values drawn between a lowest and a highest."),
    Tuning.POPULATION: ("Population-based", "8–48 jobs side by side: poor ones copy a better one's weights and vary its values."),
}

MANUAL_GROUPS = {
    group: tuple(name for name in FIELDS if FIELDS[name].group == group) for group in dict.fromkeys(f.group for f in FIELDS.values())
}


def groups_of(tuning: Tuning) -> dict[str, dict[str, HyperparameterField]]:
    """The forms of a tuning: each title with its fields by the name they have in the form."""
    groups: dict[str, dict[str, HyperparameterField]] = {}
    if tuning in SEARCHES:
        title = "Values to try" if tuning == Tuning.GRID else "Ranges and jobs"
        groups[title] = {f"{tuning}_{name}": field for name, field in SEARCH_FIELDS[tuning].items()}
    single = {name: field for name, field in fields_of(tuning).items() if name not in SEARCH_FIELDS.get(tuning, {})}
    for group, names in MANUAL_GROUPS.items():
        groups[group] = {name: single[name] for name in names if name in single}
    return groups


class HyperparametersStep:
    """Auto, manual, or one of the searches; and but for auto, a form for each group of fields."""

    name = "hyperparameters"
    section = "model"
    title = "How shall it be tuned?"

    def applies(self, choices: Choices) -> bool:
        """Not where the network is suggested: auto select tunes by itself."""
        return choices.flow != "general" or choices.selection == "manual"

    def prepare(self, context: StepContext) -> None:
        """Nothing to prepare."""

    def show(self, context: StepContext) -> View:
        """The choice; and but for auto all values as they stand, with a form per group, and of a search the number of jobs."""
        choices = context.choices
        page = self.options(context, "tuning", "", 0, FIRST_OPTIONS)
        menu = Menu("choose:tuning", "Tuning", page.options, page.total, choices.tuning, OFFERED[choices.tuning][0], always_open=True)
        if choices.tuning == Tuning.AUTO:
            return View((Text("You need not enter anything."),), (menu,))
        groups, spec = groups_of(choices.tuning), _spec(context)
        wrong = _wrong(choices, spec)
        blocks: list[Block] = [
            Facts(tuple((field.label, _shown(name, field, choices, wrong)) for name, field in fields.items()), title=group)
            for group, fields in groups.items()
        ]
        if choices.tuning == Tuning.GRID:
            blocks.insert(1, Text(product_text(_grid(choices)), Tone.HEADING))
        missing = self.missing(context)
        if missing:
            blocks.append(Text(missing, Tone.ERROR))
        forms: list[Control] = [_form(group, fields, choices, wrong, spec) for group, fields in groups.items()]
        return View(tuple(blocks), (menu, *forms))

    def act(self, context: StepContext, given: Input) -> None:
        """Choose the tuning, or take a group's form: good values are kept also when others of the form are refused."""
        choices = context.choices
        if given.target == "tuning":
            if given.value not in OFFERED:
                raise InvalidInputError(f"There is no tuning “{given.value[:60]}” here.", "Choose one of the list.")
            choices.tuning = Tuning(given.value)
            return
        accepted, refused = dict(choices.hyperparameters), dict(choices.refused)
        search = {tuning: dict(values) for tuning, values in choices.search.items()}
        for name, text in given.values.items():
            field = FIELDS.get(name) or FORM_FIELDS.get(name)
            if field is None:
                raise InvalidInputError(f"There is no hyperparameter “{name[:60]}”.")
            refused.pop(name, None)
            try:
                value = field.parse(text)
            except FieldError:
                refused[name] = str(text)[:200]
                continue
            if name in FIELDS:
                accepted[name] = value
            else:
                search.setdefault(name.partition("_")[0], {})[field.name] = value
        choices.hyperparameters, choices.refused, choices.search = accepted, refused, search

    def missing(self, context: StepContext) -> str:
        """Values in their ranges, an input size that the network takes, and no more than 48 jobs."""
        choices = context.choices
        if choices.tuning == Tuning.AUTO:
            return ""
        wrong = _wrong(choices, _spec(context)).values()
        if not wrong and choices.tuning == Tuning.GRID:
            return grid_refusal(_grid(choices))
        return " ".join(wrong)

    def options(self, context: StepContext, target: str, query: str, offset: int, limit: int) -> OptionPage:
        """The tunings that can be chosen here."""
        return matching([Option(tuning, *texts) for tuning, texts in OFFERED.items()], query, offset, limit)


def _grid(choices: Choices) -> dict[str, list[float]]:
    return made(Tuning.GRID, choices.search.get(Tuning.GRID, {})).values


def _spec(context: StepContext) -> ModelSpec | None:
    """The network that is chosen; None where it cannot be had, which the review says."""
    try:
        return chosen_spec(context)
    except StationmasterError:
        return None


def _wrong(choices: Choices, spec: ModelSpec | None) -> dict[str, str]:
    """What is wrong with the values of the chosen tuning, by field. Whether a size can be is asked anew of whichever network is chosen."""
    asked = {name: field for fields in groups_of(choices.tuning).values() for name, field in fields.items()}
    wrong = {name: FieldError(asked[name], text).what for name, text in choices.refused.items() if name in asked}
    size = choices.hyperparameters.get("image_size", "auto")
    if "image_size" not in wrong and spec is not None and (refusal := size_refusal(spec, size)):
        wrong["image_size"] = refusal
    return wrong


def _entered(name: str, field: HyperparameterField, choices: Choices) -> str:
    if name in FIELDS:
        return field.write(choices.hyperparameters.get(name, field.default))
    return field.write(choices.search.get(name.partition("_")[0], {}).get(field.name, field.default))


def _typed(name: str, field: HyperparameterField, choices: Choices) -> str:
    """A field's value as it stands, accepted or not."""
    return choices.refused[name] if name in choices.refused else _entered(name, field, choices)


def _shown(name: str, field: HyperparameterField, choices: Choices, wrong: Mapping[str, str]) -> str:
    """The value of a field as it stands, with its unit."""
    value = _typed(name, field, choices)
    if name in wrong:
        return f"{value} ← not possible"
    return f"{value} {field.unit}".strip() if value != "auto" else value


def _form(group: str, fields: dict[str, HyperparameterField], choices: Choices, wrong: Mapping[str, str], spec: ModelSpec | None) -> Form:
    inputs = [
        Field(
            name=name,
            label=f"{field.label} ({field.unit})" if field.unit else field.label,
            kind="text" if field.allows_auto or field.kind in ("values", "range") else field.kind,
            value=_typed(name, field, choices),
            hint=_hint(name, field, spec, wrong.get(name, "")),
            choices=field.choices,
            required=True,
            max_length=120 if field.kind in ("values", "range") else 40,
            error=wrong.get(name, ""),
        )
        for name, field in fields.items()
    ]
    form = Form(f"submit:{group.lower().replace(' ', '-')}", group, tuple(inputs))
    return Form(form.action, f"{group} ({count(form.errors, 'value')} to mend)", form.fields) if form.errors else form


def _hint(name: str, field: HyperparameterField, spec: ModelSpec | None, error: str) -> str:
    if name == "image_size" and spec is not None:
        if spec.sizes_text in error:  # which stands beside the hint
            return field.hint
        return f"{spec.network} takes {spec.sizes_text}; auto follows your images and the network"
    return f"{field.hint}. {field.range_text[0].upper()}{field.range_text[1:]}"
