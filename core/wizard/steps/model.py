"""The network: suggested from the data with reasons, or picked by hand family → variation → pre-training."""

from core.errors import InvalidInputError
from core.tasks.light import submit_light_job
from core.tasks.states import State
from core.vocabulary import DataType, Flow
from core.wizard.composition import dataset_facts, suggest, suggestion_is_current
from core.wizard.context import StepContext
from core.wizard.draft import Choices, Selection
from core.wizard.screens import Block, Button, Control, Facts, Menu, Option, OptionPage, Text, Tone
from core.wizard.steps.step import FIRST_OPTIONS, Input, View, count, matching
from core.zoo import catalogue, evidence, weights
from core.zoo.devices import workers_device
from core.zoo.spec import ModelSpec, gmacs_text

PREFERENCES = {1: "Small", 2: "Rather small", 3: "Medium", 4: "Rather large", 5: "Large"}
PREFERENCE_HINTS = {
    1: "quickest to train and run",
    3: "a balance of speed and accuracy",
    5: "most accurate, needs the most time and memory",
}
SELECTIONS = {
    Selection.AUTO: ("Auto select", "Say what your images show; we suggest a network and say why."),
    Selection.MANUAL: ("Manual select", "Pick the network and its pre-training yourself, and tune it if you like."),
}
NONE_TITLE = "None (from scratch)"


class ModelStep:
    """Which network, and what it has learnt before."""

    name = "model"
    section = "model"
    title = "Which network?"

    def applies(self, choices: Choices) -> bool:
        """Presets and existing models bring their network along: there neither data type nor preference is asked."""
        return choices.flow == Flow.GENERAL

    def prepare(self, context: StepContext) -> None:
        """Keep the suggestion in step with what it was made from; drop picks that do not fit the task type."""
        choices = context.choices
        if context.dataset is None or context.annotation_set is None:
            return
        if choices.selection == Selection.AUTO:
            if choices.data_type is not None and not suggestion_is_current(context):
                choices.suggestion = suggest(context)
            return
        if choices.family and choices.family not in catalogue.families(context.task_type, instances=context.tells_instances):
            choices.family, choices.network, choices.pretraining = "", "", ""
        if choices.network and not any(spec.pretraining == choices.pretraining for spec in self._entries(context)):
            specs = self._entries(context)
            choices.pretraining = catalogue.best_available(specs, context.settings).pretraining if specs else ""
            choices.network = choices.network if specs else ""

    def show(self, context: StepContext) -> View:
        """Auto or manual, and the menus of the one chosen."""
        choices = context.choices
        controls: list[Control] = [
            self._menu(context, "selection", "How to choose", choices.selection, SELECTIONS[choices.selection][0], always_open=True)
        ]
        if choices.selection == Selection.AUTO:
            preference = PREFERENCES[choices.preference]
            controls.append(self._menu(context, "preference", "Model preference", str(choices.preference), preference))
            shows = choices.data_type
            controls.append(self._menu(context, "data-type", "Tell us about your images", shows or "", shows.title if shows else ""))
            if choices.data_type is not None:
                controls.append(Button("choose:evidence", "Measure on your images" if context.evidence_job is None else "Look again"))
            return View((*_suggested(choices), *_measured(context)), tuple(controls))
        controls.append(self._menu(context, "family", "Family", choices.family, choices.family))
        if choices.family:
            controls.append(self._menu(context, "network", "Variation", choices.network, choices.network))
        blocks: list[Block] = [Text(LINE_HINT, Tone.HINT)] if choices.family else []
        if choices.network:
            controls.append(self._menu(context, "pretraining", "Pre-training", choices.pretraining, _title(choices.pretraining)))
            spec = next((item for item in self._entries(context) if item.pretraining == choices.pretraining), None)
            if spec is not None:
                blocks += [
                    Facts(
                        (
                            ("Parameters", f"{spec.parameters / 1e6:.1f} M"),
                            ("Work per image", f"{gmacs_text(spec.gmacs)} at {spec.input_size} px"),
                            *((("Finds", found),) if (found := catalogue.found_text(context.task_type, spec.network)) else ()),
                            *_published(spec),
                        ),
                        title=spec.network,
                    )
                ]
                reasons = _cannot(spec, context)
                blocks += reasons
                if reasons:
                    controls.append(Button("choose:pretraining", "Train from scratch", value=catalogue.NONE))
                elif spec.pretraining == catalogue.NONE:
                    blocks += _without(self._entries(context), context)
        return View(tuple(blocks), tuple(controls))

    def act(self, context: StepContext, given: Input) -> None:
        """Take one choice; a new family or network starts the choices below it anew."""
        choices, value = context.choices, given.value
        if given.target == "selection" and value in set(Selection):
            choices.selection = Selection(value)
        elif given.target == "preference" and value in {str(number) for number in PREFERENCES}:
            choices.preference = int(value)
        elif given.target == "data-type" and value in set(DataType):
            choices.data_type = DataType(value)
        elif given.target == "evidence":
            _measure(context)
        elif given.target == "family" and value in catalogue.families(context.task_type, instances=context.tells_instances):
            if value != choices.family:
                choices.family, choices.network, choices.pretraining = value, "", ""
        elif given.target == "network" and value in catalogue.variations(context.task_type, choices.family):
            choices.network, choices.pretraining = value, ""
        elif given.target == "pretraining" and any(spec.pretraining == value for spec in self._entries(context)):
            choices.pretraining = value
        else:
            raise InvalidInputError(f"“{value[:60]}” cannot be chosen here.", "Choose one of the list.")

    def missing(self, context: StepContext) -> str:
        """What the images show; or a network whose weights may be used and are at hand."""
        choices = context.choices
        if choices.selection == Selection.AUTO:
            return "" if choices.data_type else "Say what your images show first."
        if not choices.network:
            return "Choose a family and a network first."
        spec = next((item for item in self._entries(context) if item.pretraining == choices.pretraining), None)
        if spec is None:
            return "Choose a pre-training first."
        reason = _cannot(spec, context)
        return reason[0].body if reason else ""

    def options(self, context: StepContext, target: str, query: str, offset: int, limit: int) -> OptionPage:
        """The options of each menu; long ones are searched by word."""
        choices = context.choices
        found: list[Option] = []
        if target == "selection":
            found = [Option(selection, *texts) for selection, texts in SELECTIONS.items()]
        elif target == "preference":
            found = [Option(str(number), title, PREFERENCE_HINTS.get(number, "")) for number, title in PREFERENCES.items()]
        elif target == "data-type":
            found = [Option(kind, kind.title) for kind in DataType]
        elif target == "family":
            found = [
                Option(family, family, count(len(catalogue.variations(context.task_type, family)), "variation"))
                for family in catalogue.families(context.task_type, instances=context.tells_instances)
            ]
        elif target == "network" and choices.family:
            finder = weights.Finder(context.settings)
            for network in catalogue.variations(context.task_type, choices.family):
                entries = catalogue.pretrainings(context.task_type, network, context.settings)
                usable = [spec for spec in entries if weights.allowed(spec, context.settings)]
                best = next((spec for spec in usable if finder.available(spec)), usable[-1])
                told = best if best.pretraining != catalogue.NONE else usable[0]
                found.append(Option(network, network, _line(told, _state(told, context, finder))))
        elif target == "pretraining" and choices.network:
            finder = weights.Finder(context.settings)
            found = [
                Option(spec.pretraining, _title(spec.pretraining), _line(spec, _state(spec, context, finder)))
                for spec in self._entries(context)
            ]
        return matching(found, query, offset, limit)

    def _entries(self, context: StepContext) -> list[ModelSpec]:
        return catalogue.pretrainings(context.task_type, context.choices.network, context.settings)

    def _menu(
        self, context: StepContext, target: str, label: str, selected: str, selected_label: str, *, always_open: bool = False
    ) -> Menu:
        page = self.options(context, target, "", 0, FIRST_OPTIONS)
        return Menu(f"choose:{target}", label, page.options, page.total, selected, selected_label, always_open)


def _suggested(choices: Choices) -> list[Block]:
    suggestion = choices.suggestion
    if not suggestion or choices.data_type is None:
        return [Text("Two answers are enough: how large the model may be, and what your images show.")]
    rows = (("Network", suggestion["network"]), ("Pre-training", _title(suggestion["pretraining"])))
    reasons = "Why: " + "; ".join(suggestion["reasons"]) + "."
    return [Facts(rows, title="We suggest"), Text(reasons, Tone.HINT)]


def _measure(context: StepContext) -> None:
    """Have candidates measured on a sample of the chosen images, unless that is under way or done."""
    choices, annotation_set = context.choices, context.annotation_set
    if context.evidence_job is not None and context.evidence_job.state != State.ERROR:
        return
    if annotation_set is None or choices.data_type is None:
        raise InvalidInputError("Say what your images show first.")
    chosen = evidence.candidates(
        context.task_type,
        choices.data_type,
        dataset_facts(context),
        workers_device(context.session),
        context.settings,
        instances=context.tells_instances,
    )
    job = submit_light_job(
        context.session,
        workspace=context.actor.workspace,
        person=context.actor.person,
        kind="evidence",
        payload=evidence.payload(choices.dataset_id, annotation_set.id, context.task_type, chosen),
        place=context.place,
    )
    choices.evidence_job_id = job.id


def _measured(context: StepContext) -> list[Block]:
    """How far the measuring of candidates is, or what it showed."""
    job = context.evidence_job
    if job is None:
        return []
    if job.state == State.ERROR:
        return [Text(f"{job.error} {job.error_remedy}".strip(), Tone.ERROR)]
    if context.evidence:
        return [Facts(tuple(evidence.sentences(context.evidence)), title="Measured on your images")]
    many = len(job.payload["candidates"])
    return [
        Text(f"{job.result.get('done', 0)} of {many} candidates measured on a sample of your images; it takes a few minutes.", Tone.HINT)
    ]


def _title(pretraining: str) -> str:
    return NONE_TITLE if pretraining == catalogue.NONE else pretraining


def _published(spec: ModelSpec) -> tuple[tuple[str, str], ...]:
    rows = []
    if spec.accuracy is not None:
        rows.append(("Published accuracy", f"{100 * spec.accuracy:.1f} % ({spec.accuracy_source})"))
    if spec.images_per_second:
        rows.append(("Speed", f"{_rate(spec.images_per_second)} ({spec.speed_source})"))
    if spec.memory_mb is not None:
        rows.append(("Memory in training", f"{spec.memory_mb:,.0f} MB an image"))
    if spec.licence:
        rows.append(("Licence of the weights", spec.licence))
    return tuple(rows)


def _rate(images_per_second: float) -> str:
    return f"{images_per_second:,.0f}/s" if images_per_second >= 10 else f"{images_per_second:.{2 if images_per_second >= 1 else 1}g}/s"


# What `_line` tells, in its order; chats cut lines after 75 characters, so it has no room for words.
LINE_HINT = (
    "Lines in the menus: published accuracy · million parameters · work per image · images/s on a GPU, or on one core of a CPU where "
    "it says so · memory an image in training · licence."
)


def _line(spec: ModelSpec, state: str = "") -> str:
    """One line to compare entries by: whether it can be had, accuracy, size, work, speed, memory, licence."""
    parts = [state] if state else []
    parts += [f"{100 * spec.accuracy:.1f} %"] if spec.accuracy is not None else []
    parts += [f"{spec.parameters / 1e6:.{1 if spec.parameters < 1e8 else 0}f} M", gmacs_text(spec.gmacs)]
    if spec.images_per_second:
        parts.append(_rate(spec.images_per_second) + (" CPU" if spec.speed_is_of_cpu else ""))
    if spec.memory_mb is not None:
        parts.append(f"{spec.memory_mb:.0f} MB" if spec.memory_mb < 1000 else f"{spec.memory_mb / 1000:.1f} GB")
    if spec.licence:
        parts.append(spec.licence.removesuffix("-Clause"))
    return " · ".join(parts)


def _state(spec: ModelSpec, context: StepContext, finder: weights.Finder) -> str:
    """Why an entry cannot be taken, in two words; empty where it can."""
    if not weights.allowed(spec, context.settings):
        return "licence not allowed"
    return "" if finder.available(spec) else "not at hand"


def _without(specs: list[ModelSpec], context: StepContext) -> list[Text]:
    """What starting from scratch means, where the network has weights that are not at hand."""
    lacked = weights.lacking(specs, context.settings)
    return [Text(weights.lacking_text(lacked), Tone.HINT)] if lacked else []


def _cannot(spec: ModelSpec, context: StepContext) -> list[Text]:
    """Why an entry cannot be trained here, known before the task starts rather than an hour later."""
    if spec.pretraining == catalogue.NONE:
        return []
    if not weights.allowed(spec, context.settings):
        return [
            Text(
                f"The licence of these weights ({spec.licence or 'unknown'}) is not allowed here; the operator can allow it.", Tone.WARNING
            )
        ]
    if not weights.confirmed(spec, context.settings):
        return [
            Text(
                f"The weights {spec.name} are not at hand and cannot be downloaded here. Choose another pre-training, or {NONE_TITLE}.",
                Tone.WARNING,
            )
        ]
    return []
