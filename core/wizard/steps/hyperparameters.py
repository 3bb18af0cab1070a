"""Tuning: we tune, or the person types every hyperparameter."""

from core.errors import InvalidInputError
from core.tasks.hyperparameters import FIELDS, FieldError, HyperparameterField, value_text
from core.vocabulary import Tuning
from core.wizard.context import StepContext
from core.wizard.draft import Choices
from core.wizard.screens import Block, Control, Facts, Field, Form, Menu, Option, OptionPage, Text, Tone
from core.wizard.steps.step import FIRST_OPTIONS, Input, View, count, matching

OFFERED = {
    Tuning.AUTO: ("Auto", "We tune for you: the network family's proven recipe, and no change to your images that could alter a label."),
    Tuning.MANUAL: ("Manual", "You set every hyperparameter and the augmentation: one training job with SGD, exactly as typed."),
}

GROUPS = tuple(dict.fromkeys(field.group for field in FIELDS.values()))


class HyperparametersStep:
    """Auto or manual; and when manual, a form for each group of fields."""

    name = "hyperparameters"
    section = "model"
    title = "How shall it be tuned?"

    def applies(self, choices: Choices) -> bool:
        """Not where the network is suggested: auto select tunes by itself."""
        return choices.flow != "general" or choices.selection == "manual"

    def prepare(self, context: StepContext) -> None:
        """Nothing to prepare."""

    def show(self, context: StepContext) -> View:
        """The choice; and for manual all values as they stand, with a form per group."""
        choices = context.choices
        page = self.options(context, "tuning", "", 0, FIRST_OPTIONS)
        menu = Menu("choose:tuning", "Tuning", page.options, page.total, choices.tuning, OFFERED[choices.tuning][0], always_open=True)
        if choices.tuning != Tuning.MANUAL:
            return View((Text("You need not enter anything."),), (menu,))
        blocks: list[Block] = [
            Facts(tuple((FIELDS[name].label, shown(FIELDS[name], choices)) for name in FIELDS if FIELDS[name].group == group), title=group)
            for group in GROUPS
        ]
        if choices.refused:
            blocks.append(Text(self.missing(context), Tone.ERROR))
        forms: list[Control] = [_form(group, choices) for group in GROUPS]
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
        for name, text in given.values.items():
            if name not in FIELDS:
                raise InvalidInputError(f"There is no hyperparameter “{name[:60]}”.")
            refused.pop(name, None)
            try:
                accepted[name] = FIELDS[name].parse(text)
            except FieldError:
                refused[name] = str(text)[:200]
        choices.hyperparameters, choices.refused = accepted, refused

    def missing(self, context: StepContext) -> str:
        """Values in their ranges."""
        refused = context.choices.refused
        if context.choices.tuning != Tuning.MANUAL or not refused:
            return ""
        return " ".join(FieldError(FIELDS[name], text).what for name, text in refused.items())

    def options(self, context: StepContext, target: str, query: str, offset: int, limit: int) -> OptionPage:
        """The tunings that can be chosen here."""
        return matching([Option(tuning, *texts) for tuning, texts in OFFERED.items()], query, offset, limit)


def shown(field: HyperparameterField, choices: Choices) -> str:
    """The value of a field as it stands, with its unit."""
    if field.name in choices.refused:
        return f"{choices.refused[field.name]} ← not possible"
    value = choices.hyperparameters.get(field.name, field.default)
    return f"{value_text(value)} {field.unit}".strip() if field.unit and value != "auto" else value_text(value)


def _form(group: str, choices: Choices) -> Form:
    fields = []
    for field in (item for item in FIELDS.values() if item.group == group):
        refused = choices.refused.get(field.name)
        value = refused if refused is not None else value_text(choices.hyperparameters.get(field.name, field.default))
        fields.append(
            Field(
                name=field.name,
                label=f"{field.label} ({field.unit})" if field.unit else field.label,
                kind="text" if field.allows_auto else field.kind,
                value=value,
                hint=f"{field.hint}. {field.range_text[0].upper()}{field.range_text[1:]}",
                choices=field.choices,
                required=True,
                max_length=40,
                error=FieldError(field, refused).what if refused is not None else "",
            )
        )
    form = Form(f"submit:{group.lower().replace(' ', '-')}", group, tuple(fields))
    return Form(form.action, f"{group} ({count(form.errors, 'value')} to mend)", form.fields) if form.errors else form
