"""What a step of the wizard may look at: the choices so far, and the workspace they are made in."""

from dataclasses import dataclass
from functools import cached_property

from sqlalchemy.orm import Session

from core.access import Actor, Place
from core.datasets.listing import find_dataset
from core.db.tables import AnnotationSet, Dataset, LightJob, Model
from core.errors import InvalidInputError, NotFoundError
from core.models.heritage import Heritage, heritage_of
from core.models.listing import find_model
from core.settings import Settings
from core.tasks.states import State
from core.vocabulary import AnnotationKind, Flow, TaskType
from core.wizard.draft import Choices, Selection
from core.zoo import presets
from core.zoo.evidence import Measurement, of_result
from core.zoo.presets import Preset


@dataclass
class StepContext:
    """The draft's choices, and the workspace they are made in. Lives for one event."""

    session: Session
    settings: Settings
    actor: Actor
    choices: Choices
    place: Place | None = None  # where the conversation is; what takes longer is told there

    @cached_property
    def dataset(self) -> Dataset | None:
        """The chosen dataset, None when none is chosen or it has been deleted meanwhile."""
        if not self.choices.dataset_id:
            return None
        try:
            return find_dataset(self.session, self.actor.workspace, self.choices.dataset_id)
        except NotFoundError:
            return None

    @property
    def annotation_set(self) -> AnnotationSet | None:
        """The chosen annotation set of the chosen dataset."""
        if self.dataset is None:
            return None
        return next((item for item in self.dataset.annotation_sets if item.id == self.choices.annotation_set_id), None)

    @property
    def task_type(self) -> TaskType:
        """The task type, which earlier steps have settled."""
        if self.choices.task_type is None:
            raise InvalidInputError("No task type has been chosen yet.", "Go back and choose one.")
        return self.choices.task_type

    @property
    def tells_instances(self) -> bool:
        """Whether the chosen annotations have a mask for each object."""
        return self.annotation_set is not None and self.annotation_set.kind == AnnotationKind.INSTANCES

    @property
    def preset(self) -> Preset | None:
        """The chosen application, in specialized training."""
        return presets.find(self.choices.preset, self.settings) if self.choices.flow == Flow.SPECIALIZED and self.choices.preset else None

    @property
    def source_model(self) -> Model | None:
        """The model that learns on, in retraining; None when it has been deleted meanwhile."""
        if self.choices.flow != Flow.RETRAINING or not self.choices.source_model_id:
            return None
        try:
            return find_model(self.session, self.actor.workspace, self.choices.source_model_id)
        except NotFoundError:
            return None

    @property
    def heritage(self) -> Heritage:
        """How the model that learns on was trained; in other flows nothing."""
        return heritage_of(self.session, self.source_model) if self.source_model is not None else Heritage()

    @property
    def evidence_job(self) -> LightJob | None:
        """The measuring of candidates that was asked for, as long as it is of the chosen annotations."""
        job = self.session.get(LightJob, self.choices.evidence_job_id) if self.choices.evidence_job_id else None
        if job is None or job.payload.get("annotation_set_id") != self.choices.annotation_set_id:
            return None
        return job if job.payload.get("task_type") == self.choices.task_type else None

    @property
    def evidence(self) -> list[Measurement]:
        """What candidates have shown on the chosen images, best first; empty before it is known."""
        job = self.evidence_job
        return of_result(job.result) if job is not None and job.state == State.FINISHED else []

    @property
    def class_mismatch(self) -> str:
        """What the chosen annotations lack for the chosen application, as a sentence; empty when nothing."""
        if self.preset is None or self.annotation_set is None:
            return ""
        return self.preset.mismatch([str(name) for name in self.annotation_set.classes])

    def forget_dataset(self) -> None:
        """Look the dataset up again after the choice has changed."""
        self.__dict__.pop("dataset", None)

    @property
    def chooses_network(self) -> bool:
        """Whether this flow lets the person choose a network at all."""
        return self.choices.flow == Flow.GENERAL

    @property
    def auto_selected(self) -> bool:
        """Whether the network is suggested rather than picked by hand."""
        return self.chooses_network and self.choices.selection == Selection.AUTO
