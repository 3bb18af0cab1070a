"""The first questions: which flow; then what is to be learnt, which prepared application, or which model learns on."""

from enum import StrEnum
from typing import TypeVar

from core.errors import InvalidInputError
from core.models.listing import find_model, list_models
from core.vocabulary import FLOW_TEXTS, Flow, TaskType
from core.wizard.context import StepContext
from core.wizard.draft import Choices
from core.wizard.screens import Block, Button, Facts, Menu, Option, OptionPage, Text, Tone
from core.wizard.steps.step import FIRST_OPTIONS, Input, View, matching
from core.zoo import presets, weights
from core.zoo.spec import ModelSpec

Choice = TypeVar("Choice", bound=StrEnum)


class FlowStep:
    """General training, specialized training, or retraining."""

    name = "flow"
    section = "dataset"
    title = "What kind of training?"

    def applies(self, choices: Choices) -> bool:
        """Always the first question."""
        return True

    def prepare(self, context: StepContext) -> None:
        """General training is what most people want."""
        if context.choices.flow is None:
            context.choices.flow = Flow.GENERAL

    def show(self, context: StepContext) -> View:
        """Three flows, each with its explanation."""
        page = self.options(context, "flow", "", 0, FIRST_OPTIONS)
        flow = context.choices.flow
        menu = Menu("choose:flow", "Flow", page.options, page.total, flow or "", FLOW_TEXTS[flow][0] if flow else "", always_open=True)
        return View((Text("How shall we go about it?"),), (menu,))

    def act(self, context: StepContext, given: Input) -> None:
        """Choose a flow."""
        context.choices.flow = one_of(Flow, given.value, "flow")

    def missing(self, context: StepContext) -> str:
        """Nothing: a flow is always chosen."""
        return ""

    def options(self, context: StepContext, target: str, query: str, offset: int, limit: int) -> OptionPage:
        """The flows."""
        return matching([Option(flow, *FLOW_TEXTS[flow]) for flow in Flow], query, offset, limit)


class TaskTypeStep:
    """What is to be learnt."""

    name = "task-type"
    section = "dataset"
    title = "What shall the model do?"

    def applies(self, choices: Choices) -> bool:
        """Presets and existing models bring their task type along."""
        return choices.flow == Flow.GENERAL

    def prepare(self, context: StepContext) -> None:
        """Nothing to prepare."""

    def show(self, context: StepContext) -> View:
        """Four task types, each with its explanation."""
        page = self.options(context, "task-type", "", 0, FIRST_OPTIONS)
        chosen = context.choices.task_type
        menu = Menu(
            "choose:task-type", "Task type", page.options, page.total, chosen or "", chosen.title if chosen else "", always_open=True
        )
        return View((Text("Choose the task type. It decides which of your datasets fit."),), (menu,))

    def act(self, context: StepContext, given: Input) -> None:
        """Choose a task type."""
        context.choices.task_type = one_of(TaskType, given.value, "task type")

    def missing(self, context: StepContext) -> str:
        """A task type."""
        return "" if context.choices.task_type else "Choose a task type first."

    def options(self, context: StepContext, target: str, query: str, offset: int, limit: int) -> OptionPage:
        """The task types."""
        return matching([Option(kind, kind.title, kind.explanation) for kind in TaskType], query, offset, limit)


class PresetStep:
    """Which prepared application."""

    name = "preset"
    section = "dataset"
    title = "Which application?"

    def applies(self, choices: Choices) -> bool:
        """Only in specialized training."""
        return choices.flow == Flow.SPECIALIZED

    def prepare(self, context: StepContext) -> None:
        """The preset settles the task type."""
        preset = presets.find(context.choices.preset, context.settings) if context.choices.preset else None
        context.choices.preset = preset.slug if preset else ""
        if preset:
            context.choices.task_type = preset.task_type

    def show(self, context: StepContext) -> View:
        """The prepared applications, or that there are none."""
        page = self.options(context, "preset", "", 0, FIRST_OPTIONS)
        if not page.total:
            return View((Text("No prepared application is installed here yet. Go back and choose general training.", Tone.WARNING),), ())
        preset = presets.find(context.choices.preset, context.settings) if context.choices.preset else None
        blocks: list[Block] = [Text("A prepared application brings its network and pre-training; you bring the images.")]
        buttons: tuple[Button, ...] = ()
        if preset:
            spec = preset.spec(context.settings)
            scratch = context.choices.from_scratch
            if lack := _lack(spec, context):
                blocks.append(Text(f"{lack} It can be trained from scratch, which takes longer and many more images.", Tone.WARNING))
                buttons = (Button("choose:from-scratch", "Use its weights after all" if scratch else "Train from scratch"),)
            blocks.append(
                Facts(
                    (
                        ("What it tells", preset.description),
                        ("Task type", preset.task_type.title),
                        ("Classes", ", ".join(preset.classes)),
                        ("Network", spec.network),
                        ("Pre-training", "None (from scratch)" if scratch else spec.pretrained_on),
                    ),
                    title=preset.title,
                )
            )
        menu = Menu("choose:preset", "Application", page.options, page.total, context.choices.preset, preset.title if preset else "")
        return View(tuple(blocks), (menu, *buttons))

    def act(self, context: StepContext, given: Input) -> None:
        """Choose an application; or whether to do without weights that cannot be had."""
        if given.target == "from-scratch":
            context.choices.from_scratch = not context.choices.from_scratch
            return
        preset = presets.find(given.value, context.settings)
        if preset is None:
            raise InvalidInputError(f"There is no application “{given.value[:60]}”.", "Choose one of the list.")
        context.choices.preset, context.choices.from_scratch = preset.slug, False
        context.choices.task_type = preset.task_type

    def missing(self, context: StepContext) -> str:
        """An application whose weights can be had, or that is to do without."""
        preset = context.preset
        if preset is None:
            return "Choose an application first, or go back to general training."
        return "" if context.choices.from_scratch else _lack(preset.spec(context.settings), context)

    def options(self, context: StepContext, target: str, query: str, offset: int, limit: int) -> OptionPage:
        """The applications."""
        return matching(
            [Option(item.slug, item.title, item.description) for item in presets.all_presets(context.settings)], query, offset, limit
        )


class SourceModelStep:
    """Which finished model learns on."""

    name = "source-model"
    section = "dataset"
    title = "Which model shall learn on?"

    def applies(self, choices: Choices) -> bool:
        """Only in retraining."""
        return choices.flow == Flow.RETRAINING

    def prepare(self, context: StepContext) -> None:
        """The model settles the task type, network and pre-training; it may have been deleted meanwhile."""
        model = (
            find_model(context.session, context.actor.workspace, context.choices.source_model_id)
            if context.choices.source_model_id
            else None
        )
        context.choices.source_model_id = model.id if model else ""
        if model:
            context.choices.task_type = TaskType(model.task_type)

    def show(self, context: StepContext) -> View:
        """The workspace's models, or that there are none."""
        page = self.options(context, "source-model", "", 0, FIRST_OPTIONS)
        chosen = context.choices.source_model_id
        if not page.total:
            return View(
                (Text("There is no finished model here yet. Go back and train one with general training first.", Tone.WARNING),), ()
            )
        label = find_model(context.session, context.actor.workspace, chosen).name if chosen else ""
        menu = Menu("choose:source-model", "Model", page.options, page.total, chosen, label)
        return View((Text("Its network and weights stay; it learns on from your images."),), (menu,))

    def act(self, context: StepContext, given: Input) -> None:
        """Choose a model."""
        model = find_model(context.session, context.actor.workspace, given.value)
        context.choices.source_model_id = model.id
        context.choices.task_type = TaskType(model.task_type)

    def missing(self, context: StepContext) -> str:
        """A model."""
        return "" if context.choices.source_model_id else "Choose a model first, or go back to general training."

    def options(self, context: StepContext, target: str, query: str, offset: int, limit: int) -> OptionPage:
        """The models, newest first."""
        models, total = list_models(context.session, context.actor.workspace, search=query, offset=offset, limit=limit)
        return OptionPage(
            tuple(
                Option(model.id, model.name, f"{TaskType(model.task_type).title} · {model.network} · {len(model.classes)} classes")
                for model in models
            ),
            total,
        )


def _lack(spec: ModelSpec, context: StepContext) -> str:
    """Why an application's weights cannot be used here; empty where they can."""
    if not weights.allowed(spec, context.settings):
        return f"The licence of the weights {spec.name} ({spec.licence or 'unknown'}) is not allowed here; the operator can allow it."
    if not weights.confirmed(spec, context.settings):
        return f"The weights {spec.name} are not at hand and cannot be downloaded here."
    return ""


def one_of(kind: type[Choice], value: str, noun: str) -> Choice:
    """The member of an enumeration that a press names."""
    try:
        return kind(value)
    except ValueError as error:
        raise InvalidInputError(f"There is no {noun} “{value[:60]}”.", "Choose one of the list.") from error
