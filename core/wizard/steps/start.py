"""The end of the way: a name, a review of everything, and Start."""

from core.datasets.listing import set_text
from core.datasets.representation import ONE_CLASS_REMEDY, one_class_text
from core.errors import InvalidInputError
from core.models.listing import class_changes
from core.names import LONGEST, clean_name
from core.tuning.search import Search
from core.vocabulary import FLOW_TEXTS
from core.wizard.composition import compose, dataset_facts
from core.wizard.context import StepContext
from core.wizard.draft import Choices
from core.wizard.review import search_facts
from core.wizard.screens import Button, Facts, Field, Form, OptionPage, Text, Tone
from core.wizard.steps.hyperparameters import OFFERED
from core.wizard.steps.step import Input, View, count
from core.zoo.catalogue import found_text
from core.zoo.recipes import tiny_objects_text

DESCRIPTION_LENGTH = 1000


class NameStep:
    """What the task and its model are called."""

    name = "name"
    section = "start"
    title = "What shall we call it?"

    def applies(self, choices: Choices) -> bool:
        """In every flow."""
        return True

    def prepare(self, context: StepContext) -> None:
        """Propose a name that says what it is."""
        if not context.choices.name and context.dataset is not None:
            context.choices.name = f"{context.dataset.name} {context.task_type.title.split()[-1].lower()}"[:LONGEST]

    def show(self, context: StepContext) -> View:
        """The names as they stand, and the form."""
        choices = context.choices
        rows = (
            ("Task name", choices.name or "–"),
            ("Description", choices.description or "–"),
            ("Model name", choices.model_name or choices.name or "–"),
        )
        form = Form(
            "submit:name",
            "Edit names",
            (
                Field("name", "Task name", "text", choices.name, hint=f"Up to {LONGEST} characters", required=True, max_length=LONGEST),
                Field("description", "Description", "paragraph", choices.description, hint="Optional", max_length=DESCRIPTION_LENGTH),
                Field(
                    "model_name",
                    "Model name",
                    "text",
                    choices.model_name,
                    hint="Optional: the task's name unless you give another",
                    max_length=LONGEST,
                ),
            ),
        )
        return View((Facts(rows),), (form,))

    def act(self, context: StepContext, given: Input) -> None:
        """Take the names."""
        name = given.values.get("name", "").strip()
        description = given.values.get("description", "").strip()
        model_name = given.values.get("model_name", "").strip()
        if len(description) > DESCRIPTION_LENGTH:
            raise InvalidInputError(f"Description takes up to {DESCRIPTION_LENGTH:,} characters; {len(description):,} were given.")
        name = clean_name(name, "task")
        model_name = clean_name(model_name, "model") if model_name else ""
        context.choices.name, context.choices.description, context.choices.model_name = name, description, model_name

    def missing(self, context: StepContext) -> str:
        """A name."""
        return "" if context.choices.name else "Give the task a name first."

    def options(self, context: StepContext, target: str, query: str, offset: int, limit: int) -> OptionPage:
        """No menus here."""
        return OptionPage((), 0)


class ReviewStep:
    """Everything chosen, in full, and Start."""

    name = "review"
    section = "start"
    title = "Everything right?"

    def applies(self, choices: Choices) -> bool:
        """In every flow."""
        return True

    def prepare(self, context: StepContext) -> None:
        """Nothing to prepare."""

    def show(self, context: StepContext) -> View:
        """All choices, the complete plan, and the number of training jobs."""
        new = compose(context)
        choices, dataset, annotation_set = context.choices, context.dataset, context.annotation_set
        assert dataset is not None and annotation_set is not None and choices.flow is not None  # noqa: S101  compose has refused otherwise
        rows = [
            ("Name", choices.name),
            ("Flow", FLOW_TEXTS[choices.flow][0]),
            ("Task type", context.task_type.title),
            (
                "Dataset",
                f"{dataset.name} ({count(dataset.image_count, 'image')}, {count(len(annotation_set.classes), 'class', 'classes')})",
            ),
            *((("Annotation set", told),) if (told := set_text(dataset, annotation_set.id, context.task_type)) else ()),
            ("Network", new.network),
            *((("Finds", found),) if (found := found_text(context.task_type, new.network)) else ()),
            ("Pre-training", "none (from scratch)" if new.pretraining == "none" else new.pretraining),
            ("Tuning", OFFERED[new.tuning][0]),
            *((("Why", why),) if (why := new.search.get("why")) else ()),
            ("Training jobs", str(len(new.plans))),
            ("Model name", new.model_name),
        ]
        if context.preset is not None:
            rows.insert(2, ("Application", context.preset.title))
        if context.source_model is not None:
            rows.insert(2, ("Learns on from", context.source_model.name))
            if changes := class_changes(context.source_model.classes, annotation_set.classes):
                rows.append(("Classes", changes))
        if choices.description:
            rows.insert(1, ("Description", choices.description))
        one_class = one_class_text(annotation_set.kind, annotation_set.classes, annotation_set.class_counts)
        tiny = tiny_objects_text(dataset_facts(context), new.plans[0].image_size)
        return View(
            (
                Facts(tuple(rows), title="Review"),
                *((Text(f"{one_class} {ONE_CLASS_REMEDY}", Tone.WARNING),) if one_class else ()),
                *((Text(tiny, Tone.WARNING),) if tiny else ()),
                *search_facts(new.plans[0], Search.from_json(new.search)),
                Text("Start puts the training in the queue.", Tone.HINT),
            ),
            (Button("start", "Start", style="primary"),),
        )

    def act(self, context: StepContext, given: Input) -> None:
        """Nothing to choose here: Start is the conversation's own action."""
        raise InvalidInputError("There is nothing to choose here.", "Press Start, Back or Cancel.")

    def missing(self, context: StepContext) -> str:
        """Nothing follows but Start."""
        return "This is the last step: press Start."

    def options(self, context: StepContext, target: str, query: str, offset: int, limit: int) -> OptionPage:
        """No menus here."""
        return OptionPage((), 0)
