"""Event in → draft saved → screen out. No state lives in a process: bots restart and scale out freely."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from core.access import Actor, Place
from core.clock import now
from core.datasets.listing import find_dataset
from core.datasets.previews import preview_page
from core.db.session import Database
from core.db.tables import Draft, Task
from core.errors import ConflictError, InvalidInputError, NotAllowedError, NotFoundError, StationmasterError
from core.models.listing import find_model
from core.settings import Settings
from core.storage import Storage
from core.tasks.creation import create_task
from core.vocabulary import Flow, TaskType
from core.wizard.composition import compose
from core.wizard.context import StepContext
from core.wizard.draft import Choices
from core.wizard.screens import Button, Confirm, Control, Form, OptionPage, Picture, Screen, StepMark, Text, Tone
from core.wizard.steps import STEPS
from core.wizard.steps.step import Input, Step, View
from core.wizard.writing import written

logger = logging.getLogger(__name__)

STALE = "This step has moved on; here is where you are now."
HOW_TO_BEGIN = "Start a new one with /train."
THROW_AWAY = Confirm("Throw away what you have chosen here?", "Throw it away", "Go on with it")


@dataclass(frozen=True)
class Press:
    """Something a person did to a screen: pressed a button, chose of a menu, sent a form.

    `version` is that of the screen the control stood on; None where the person spoke of the current screen.
    """

    draft_id: str
    version: int | None
    action: str
    value: str = ""
    values: Mapping[str, str] = field(default_factory=dict)


class Conversation:
    """The wizard over one database. `on_start` is called after a task has been committed, to wake the dispatcher."""

    def __init__(self, database: Database, storage: Storage, settings: Settings, on_start: Callable[[], None] = lambda: None) -> None:
        self.database = database
        self.storage = storage
        self.settings = settings
        self.on_start = on_start

    def begin(
        self,
        actor: Actor,
        place: Place,
        *,
        flow: Flow | None = None,
        task_type: TaskType | None = None,
        dataset: str = "",
        source_model: str = "",
    ) -> Screen:
        """Open a draft and show its first screen; what the person already said is filled in, and not asked first.

        Raises:
            NotFoundError: when `dataset` or `source_model` names none of the workspace.
        """

        def open_one(session: Session) -> Screen:
            choices = Choices(flow=Flow.GENERAL if task_type else flow, task_type=task_type)
            if dataset:
                choices.dataset_id = find_dataset(session, actor.workspace, dataset).id
            if source_model:
                choices.source_model_id = find_model(session, actor.workspace, source_model).id
            if task_type or source_model:
                choices.step = "dataset"
            draft = Draft(workspace=actor.workspace, person=actor.person, person_name=actor.name, place=place.to_json(), choices={})
            session.add(draft)
            session.flush()
            return self._save_and_show(session, draft, self._context(session, actor, choices, place))

        return written(self.database, open_one)

    def handle(self, actor: Actor, press: Press) -> Screen:
        """Take one press, and show what follows. Pressing twice does a thing once.

        Raises:
            NotFoundError: when there is no such draft in the actor's workspace.
            NotAllowedError: when the draft is somebody else's.
        """
        screen = written(self.database, lambda session: self._handle(session, actor, press))
        if (press.action == "start" and screen.task_id) or press.action == "choose:evidence":
            self.on_start()
        return screen

    def _handle(self, session: Session, actor: Actor, press: Press) -> Screen:
        draft = self._draft(session, actor, press.draft_id)
        if draft.state != "open":
            return self._ended(session, draft)
        context = self._context(session, actor, Choices.model_validate(draft.choices), Place.from_json(draft.place))
        if press.version is not None and press.version != draft.version and not _still_asked(press, context):
            return self._show(draft, context, Text(STALE, Tone.WARNING))
        if press.action == "cancel":
            draft.state, draft.updated_at = "cancelled", now()
            return self._ended(session, draft)
        before = context.choices.model_copy(deep=True)
        notice: Text | None = None
        try:
            if press.action == "start":
                return self._start(session, draft, context)
            self._take(context, press)
        except (InvalidInputError, NotFoundError, ConflictError) as error:
            context.choices = before
            context.forget_dataset()
            notice = Text(str(error), Tone.ERROR)
        return self._save_and_show(session, draft, context, notice)

    def show(self, actor: Actor, draft_id: str) -> Screen:
        """The current screen of a draft, for example after a restart of the bot."""

        def shown(session: Session) -> Screen:
            draft = self._draft(session, actor, draft_id)
            if draft.state != "open":
                return self._ended(session, draft)
            return self._show(draft, self._context(session, actor, Choices.model_validate(draft.choices), Place.from_json(draft.place)))

        return written(self.database, shown)

    def options(self, actor: Actor, draft_id: str, action: str, query: str = "", offset: int = 0, limit: int = 100) -> OptionPage:
        """The options of a menu of the current screen that match a search, for menus too long to show whole."""
        with self.database.read() as session:
            draft = self._draft(session, actor, draft_id)
            context = self._context(session, actor, Choices.model_validate(draft.choices))
            step = _step_named(context.choices.step, context.choices)
            return step.options(context, action.partition(":")[2], query.strip()[:100], max(0, offset), max(1, limit))

    def open_draft(self, actor: Actor, face: str) -> str | None:
        """The actor's newest open draft on a face, to go on with after an interruption."""
        with self.database.read() as session:
            drafts = session.scalars(
                select(Draft)
                .where(Draft.workspace == actor.workspace, Draft.person == actor.person, Draft.state == "open")
                .order_by(Draft.updated_at.desc())
                .limit(20)
            )
            return next((draft.id for draft in drafts if draft.place.get("face") == face), None)

    def picture(self, picture: Picture) -> bytes:
        """The bytes of a screen's picture; a preview page is drawn at its first use and cached."""
        if picture.preview is None:
            return self.storage.read(picture.key)
        wanted = picture.preview
        page = preview_page(self.database, self.storage, self.settings, wanted.dataset_id, wanted.annotation_set_id, wanted.page)
        return self.storage.read(page.png_key)

    def _draft(self, session: Session, actor: Actor, draft_id: str) -> Draft:
        draft = session.scalar(select(Draft).where(Draft.id == draft_id, Draft.workspace == actor.workspace).with_for_update())
        if draft is None:
            raise NotFoundError("This conversation is no longer known here.", HOW_TO_BEGIN)
        if draft.person != actor.person and not actor.admin:
            raise NotAllowedError(f"This conversation belongs to {draft.person_name}.", "Start one of your own with /train.")
        return draft

    def _context(self, session: Session, actor: Actor, choices: Choices, place: Place | None = None) -> StepContext:
        return StepContext(session, self.settings, actor, choices, place)

    def _take(self, context: StepContext, press: Press) -> None:
        step = _step_named(context.choices.step, context.choices)
        if press.action == "next":
            missing = step.missing(context)
            if missing:
                raise InvalidInputError(missing)
            context.choices.step = _neighbour(step, context.choices, 1).name
        elif press.action == "back":
            context.choices.step = _neighbour(step, context.choices, -1).name
        else:
            step.act(context, Input(press.action.partition(":")[2], press.value, press.values))

    def _start(self, session: Session, draft: Draft, context: StepContext) -> Screen:
        if context.choices.step != "review":
            raise InvalidInputError("Not everything has been chosen yet.", "Go on to the review first.")
        new = replace(compose(context), draft_id=draft.id, place=Place.from_json(draft.place))
        task = create_task(session, self.settings, new)
        draft.state, draft.task_id, draft.updated_at = "started", task.id, now()
        draft.version += 1
        session.flush()
        return self._ended(session, draft)

    def _save_and_show(self, session: Session, draft: Draft, context: StepContext, notice: Text | None = None) -> Screen:
        screen = self._show(draft, context, notice, version=draft.version + 1)
        draft.choices = context.choices.model_dump(mode="json")
        draft.version += 1
        draft.updated_at = now()
        session.flush()
        return screen

    def _show(self, draft: Draft, context: StepContext, notice: Text | None = None, version: int | None = None) -> Screen:
        step = _step_named(context.choices.step, context.choices)
        step.prepare(context)
        # Something chosen earlier may have vanished meanwhile: go back to where it has to be chosen again.
        for earlier in _way(context.choices):
            if earlier is step:
                break
            earlier.prepare(context)
            missing = earlier.missing(context)
            if missing:
                context.choices.step, step = earlier.name, earlier
                notice = notice or Text(f"Something chosen before is no longer possible. {missing}", Tone.WARNING)
                break
        try:
            view = step.show(context)
        except StationmasterError as error:
            view = View((Text(str(error), Tone.ERROR),), ())
        return Screen(
            draft_id=draft.id,
            version=version or draft.version,
            title=step.title,
            steps=_marks(step, context.choices),
            blocks=view.blocks,
            controls=(*view.controls, *_navigation(step, context.choices)),
            notice=notice,
        )

    def _ended(self, session: Session, draft: Draft) -> Screen:
        if draft.state == "started":
            task = session.get(Task, draft.task_id)
            name = task.name if task is not None else draft.choices.get("name", "")
            block, title = Text(f"“{name}” is in the queue. Its progress follows here.", Tone.GOOD), "Started"
        elif draft.state == "cancelled":
            block, title = Text(f"Cancelled: nothing was started. {HOW_TO_BEGIN}"), "Cancelled"
        else:
            block, title = Text(f"This conversation was left alone for too long and has expired. {HOW_TO_BEGIN}", Tone.WARNING), "Expired"
        return Screen(draft.id, draft.version, title, (), (block,), (), ended=True, task_id=draft.task_id or "")


def expire_drafts(database: Database, settings: Settings) -> int:
    """Close open drafts that nobody has touched for `settings.draft_days`; returns how many."""
    with database.write() as session:
        result = session.execute(
            update(Draft)
            .where(Draft.state == "open", Draft.updated_at < now() - timedelta(days=settings.draft_days))
            .values(state="expired")
        )
        return int(getattr(result, "rowcount", 0))


def _way(choices: Choices) -> tuple[Step, ...]:
    return tuple(step for step in STEPS if step.applies(choices))


def _step_named(name: str, choices: Choices) -> Step:
    """The step of that name, or the last one before it that is on the way."""
    found = STEPS[0]
    for step in STEPS:
        if step.applies(choices):
            found = step
        if step.name == name:
            break
    return found


def _still_asked(press: Press, context: StepContext) -> bool:
    """Whether a form that was opened on an older version still stands: what somebody typed is not thrown away."""
    if not press.action.startswith("submit:"):
        return False
    step = _step_named(context.choices.step, context.choices)
    return any(isinstance(control, Form) and control.action == press.action for control in step.show(context).controls)


def _neighbour(step: Step, choices: Choices, distance: int) -> Step:
    way = _way(choices)
    place = way.index(step) + distance
    if not 0 <= place < len(way):
        raise InvalidInputError("This is the first step." if distance < 0 else "This is the last step: press Start.")
    return way[place]


def _marks(current: Step, choices: Choices) -> tuple[StepMark, ...]:
    middle = "Model" if choices.flow in (None, Flow.GENERAL) else "Hyperparameters"
    sections = {"dataset": "Dataset", "model": middle, "start": "Start"}
    order = list(sections)
    place = order.index(current.section)
    states = ("done" if index < place else "current" if index == place else "ahead" for index in range(len(order)))
    return tuple(StepMark(sections[name], state) for name, state in zip(order, states, strict=True))


def _navigation(step: Step, choices: Choices) -> tuple[Control, ...]:
    way = _way(choices)
    buttons: list[Control] = []
    if step is not way[-1]:
        buttons.append(Button("next", "Next", style="primary"))
    if step is not way[0]:
        buttons.append(Button("back", "Back"))
    holds_choices = choices != Choices(step=choices.step, flow=choices.flow)
    buttons.append(Button("cancel", "Cancel", style="danger", confirm=THROW_AWAY if holds_choices else None))
    return tuple(buttons)
