"""All tables. Times are UTC, JSON columns hold what only the program reads, everything that is searched is a column."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, MetaData, String, Text, UniqueConstraint, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from core.clock import now
from core.db.folding import Named
from core.db.types import Json, UtcDateTime
from core.identifiers import new_id

# SQLite only counts up in INTEGER columns.
BigId = BigInteger().with_variant(Integer, "sqlite")


class Base(DeclarativeBase):
    """Base of all tables; constraints are named so that migrations can drop them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {dict[str, Any]: Json, list[Any]: Json, datetime: UtcDateTime, str: Text}  # noqa: RUF012


# ---------------------------------------------------------------- datasets


class Dataset(Named, Base):
    """A named set of images. Visible once `state` is `ready`; an import writes under its id before that."""

    __tablename__ = "datasets"
    __table_args__ = (
        UniqueConstraint("workspace", "name"),
        # In the order of lists, and with all that a search looks at.
        Index("ix_datasets_listing", "workspace", "state", "folded_name", "name"),
    )

    id: Mapped[str] = mapped_column(String(16), primary_key=True, default=new_id)
    workspace: Mapped[str]
    state: Mapped[str] = mapped_column(String(16), default="importing")  # importing, held (keep or drop?), ready, deleting
    source_format: Mapped[str] = mapped_column(default="")
    image_count: Mapped[int] = mapped_column(default=0)
    median_width: Mapped[int] = mapped_column(default=0)
    median_height: Mapped[int] = mapped_column(default=0)
    bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    fingerprint: Mapped[str] = mapped_column(default="")  # sha256 over images and annotations
    statistics: Mapped[dict[str, Any]] = mapped_column(default=dict)
    created_by: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=now)

    annotation_sets: Mapped[list["AnnotationSet"]] = relationship(order_by="AnnotationSet.position", cascade="all, delete-orphan")


class DatasetImage(Base):
    """One image of a dataset. `key` is its object in the storage, `path` the name it came under."""

    __tablename__ = "dataset_images"

    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)  # 0-based, dense
    path: Mapped[str]
    key: Mapped[str]
    width: Mapped[int]
    height: Mapped[int]
    sha256: Mapped[str] = mapped_column(String(64))
    split: Mapped[str] = mapped_column(String(8), default="")  # "", train, val: as the source said
    group: Mapped[str] = mapped_column(default="")  # images of one group never fall on both sides of a split
    study: Mapped[str] = mapped_column(default="")  # DICOM's StudyInstanceUID and SeriesInstanceUID
    series: Mapped[str] = mapped_column(default="")


class AnnotationSet(Base):
    """Labels of one kind over a dataset's images."""

    __tablename__ = "annotation_sets"
    __table_args__ = (Index("ix_annotation_sets_kind", "dataset_id", "kind"),)

    id: Mapped[str] = mapped_column(String(16), primary_key=True, default=new_id)
    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"))
    position: Mapped[int]
    name: Mapped[str]
    kind: Mapped[str] = mapped_column(String(16))  # single-label, multi-label, boxes, regions, instances
    classes: Mapped[list[Any]]  # class names; annotations hold indices into it
    class_counts: Mapped[list[Any]]  # images (labels) or objects (boxes, masks) per class
    image_count: Mapped[int]  # images that have an annotation, "no objects" included
    derived_from: Mapped[str | None] = mapped_column(String(16))


class Annotation(Base):
    """What one annotation set says of one image.

    `value` by kind (x, y, width, height in pixels of the stored image, c = class index):
    single-label `{"label": c}` · multi-label `{"labels": [c, …]}` · boxes `{"boxes": [[c, x, y, width, height], …]}` ·
    regions `{"masks": [[c, rle], …]}` · instances `{"objects": [[c, rle], …]}`, rle as COCO's compressed counts string.

    Where there are such, boxes and instances have besides `"areas": [a, …]`, of each object the area in pixels by which the source tells sizes
    apart, and `"ignored": […]`, of the same shape as the objects: what is neither learnt nor judged, such as crowds. Regions have `"ignored": rle`,
    the pixels of no known class.
    """

    __tablename__ = "annotations"

    annotation_set_id: Mapped[str] = mapped_column(ForeignKey("annotation_sets.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)  # of the image in its dataset
    value: Mapped[dict[str, Any]]


class DatasetFinding(Base):
    """Something an import noticed: what, where, and how to mend it."""

    __tablename__ = "dataset_findings"

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"), index=True)
    severity: Mapped[str] = mapped_column(String(8))  # error: left out · warning: kept
    code: Mapped[str] = mapped_column(String(40))
    file: Mapped[str]
    line: Mapped[int | None]
    message: Mapped[str]
    remedy: Mapped[str]


# ---------------------------------------------------------------- the conversation


class Draft(Base):
    """A task being put together. `version` counts changes; a press that carries an older one is stale."""

    __tablename__ = "drafts"
    __table_args__ = (Index("ix_drafts_expiry", "state", "updated_at"),)

    id: Mapped[str] = mapped_column(String(16), primary_key=True, default=new_id)
    workspace: Mapped[str]
    person: Mapped[str]
    person_name: Mapped[str]
    place: Mapped[dict[str, Any]]
    version: Mapped[int] = mapped_column(default=1)
    state: Mapped[str] = mapped_column(String(12), default="open")  # open, started, cancelled, expired
    choices: Mapped[dict[str, Any]]  # core.wizard.draft.Choices
    task_id: Mapped[str | None] = mapped_column(String(16))
    created_at: Mapped[datetime] = mapped_column(default=now)
    updated_at: Mapped[datetime] = mapped_column(default=now)


# ---------------------------------------------------------------- tasks and jobs


class Task(Named, Base):
    """What a person creates: one model to be trained, by one or more jobs."""

    __tablename__ = "tasks"
    __table_args__ = (
        # The folded name is in the index, so that a search need not read the rows.
        Index("ix_tasks_created", "workspace", "created_at", "id", "folded_name"),
        Index("ix_tasks_state_created", "workspace", "state", "created_at"),
        Index("ix_tasks_finished", "workspace", "finished_at"),
        Index("ix_tasks_person", "workspace", "created_by", "state"),
        Index("ix_tasks_name", "workspace", "name"),
    )

    id: Mapped[str] = mapped_column(String(16), primary_key=True, default=new_id)
    workspace: Mapped[str]
    description: Mapped[str] = mapped_column(default="")
    model_name: Mapped[str]
    flow: Mapped[str] = mapped_column(String(16))
    preset: Mapped[str] = mapped_column(default="")
    source_model_id: Mapped[str] = mapped_column(String(16), default="")  # retraining
    task_type: Mapped[str] = mapped_column(String(24))
    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id"), index=True)
    annotation_set_id: Mapped[str] = mapped_column(ForeignKey("annotation_sets.id"), index=True)
    network: Mapped[str]
    pretraining: Mapped[str]
    suggestion: Mapped[dict[str, Any]] = mapped_column(default=dict)  # what the images show; of auto select its reasons, too
    tuning: Mapped[str] = mapped_column(String(12))  # auto, manual, grid, random, population
    settings: Mapped[dict[str, Any]]  # what the person entered (typed values only)
    search: Mapped[dict[str, Any]] = mapped_column(default=dict)  # core.tuning.search.Search; empty where one plan is trained
    seed: Mapped[int]
    state: Mapped[str] = mapped_column(String(12), default="waiting")  # core.tasks.states.TaskState
    stop_mode: Mapped[str] = mapped_column(String(8), default="")  # "", keep, discard
    error: Mapped[str] = mapped_column(default="")
    error_remedy: Mapped[str] = mapped_column(default="")
    metrics: Mapped[dict[str, Any]] = mapped_column(default=dict)  # flat, fractions, of the best job
    model_id: Mapped[str | None] = mapped_column(String(16))
    place: Mapped[dict[str, Any]]  # where the conversation is
    draft_id: Mapped[str | None] = mapped_column(String(16), unique=True)  # twice pressed = once started
    event_count: Mapped[int] = mapped_column(default=0)
    created_by: Mapped[str]
    created_by_name: Mapped[str] = mapped_column(default="")
    created_at: Mapped[datetime] = mapped_column(default=now)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    swept: Mapped[bool] = mapped_column(default=False, server_default=text("false"))  # what it left is gone from the storage

    jobs: Mapped[list["Job"]] = relationship(order_by="Job.number", cascade="all, delete-orphan")


class Job(Base):
    """One training run of one set of hyperparameters on one device.

    `generation` fences: whoever holds an older one may write nothing more.
    """

    __tablename__ = "jobs"
    __table_args__ = (
        UniqueConstraint("task_id", "number"),
        Index("ix_jobs_state", "state", "heartbeat_at"),
        Index("ix_jobs_ended", "state", "finished_at"),
    )

    id: Mapped[str] = mapped_column(String(16), primary_key=True, default=new_id)
    task_id: Mapped[str] = mapped_column(ForeignKey("tasks.id", ondelete="CASCADE"))
    number: Mapped[int]  # 1-based within the task
    plan: Mapped[dict[str, Any]]  # core.tasks.hyperparameters.TrainingPlan, complete
    state: Mapped[str] = mapped_column(String(12), default="waiting")
    # Set where training is over but the job, the last of its task, has yet to make the task's model: the state it will end in.
    ending: Mapped[str] = mapped_column(String(12), default="", server_default="")
    generation: Mapped[int] = mapped_column(default=1)
    attempts: Mapped[int] = mapped_column(default=0)  # how often a worker has taken it
    losses_in_a_row: Mapped[int] = mapped_column(default=0)  # lost without progress since
    worker: Mapped[str] = mapped_column(default="")  # core.process_identity of the work-horse
    device: Mapped[str] = mapped_column(default="")
    heartbeat_at: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    device_seconds: Mapped[float] = mapped_column(default=0.0)  # time on a device, all attempts together
    epoch: Mapped[int] = mapped_column(default=0)  # epochs finished and checkpointed
    score: Mapped[float | None]  # the objective's score of the best epoch, higher is better
    metrics: Mapped[dict[str, Any]] = mapped_column(default=dict)  # of the best epoch, flat, fractions
    error: Mapped[str] = mapped_column(default="")
    error_remedy: Mapped[str] = mapped_column(default="")


class Lineage(Base):
    """A member of a population copies another's weights before the epoch after `epoch`, and goes on with changed values."""

    __tablename__ = "lineage"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    generation: Mapped[int] = mapped_column(primary_key=True)  # of the copying job, the first one that makes the copy
    epoch: Mapped[int]  # epochs the copying member had finished
    task_id: Mapped[str] = mapped_column(ForeignKey("tasks.id", ondelete="CASCADE"), index=True)
    source: Mapped[int]  # number of the job that was copied
    source_epoch: Mapped[int]
    score: Mapped[float | None]  # the copying member's latest; None where it had diverged
    source_score: Mapped[float]
    before: Mapped[dict[str, Any]]  # hyperparameters until then
    after: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(default=now)


class LightJob(Base):
    """Work on a CPU that must not wait behind trainings: prediction, import, preview, evidence, export."""

    __tablename__ = "light_jobs"
    __table_args__ = (Index("ix_light_jobs_state", "state", "heartbeat_at"), Index("ix_light_jobs_untold", "untold_face", "state"))

    id: Mapped[str] = mapped_column(String(16), primary_key=True, default=new_id)
    workspace: Mapped[str]
    kind: Mapped[str] = mapped_column(String(24))  # a key of worker.jobs.LIGHT
    payload: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(String(12), default="waiting")  # waiting, running, finished, error
    generation: Mapped[int] = mapped_column(default=1)
    attempts: Mapped[int] = mapped_column(default=0)
    worker: Mapped[str] = mapped_column(default="")
    heartbeat_at: Mapped[datetime | None]
    result: Mapped[dict[str, Any]] = mapped_column(default=dict)
    error: Mapped[str] = mapped_column(default="")
    error_remedy: Mapped[str] = mapped_column(default="")
    place: Mapped[dict[str, Any]] = mapped_column(default=dict)
    untold_face: Mapped[str] = mapped_column(String(12), default="")  # the face whose thread is to be told of the end; empty once it is
    created_by: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=now)
    finished_at: Mapped[datetime | None]


class Outbox(Base):
    """Work that is to be put on the queue; the row goes when the queue has it."""

    __tablename__ = "outbox"
    __table_args__ = (UniqueConstraint("job_id", "generation"), Index("ix_outbox_queue", "queue", "id"))

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    queue: Mapped[str] = mapped_column(String(8))  # gpu, light
    job_id: Mapped[str] = mapped_column(String(16))
    generation: Mapped[int]
    person: Mapped[str]  # workspace and person, for fairness
    task_id: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[datetime] = mapped_column(default=now)


class Event(Base):
    """What workers tell. `number` counts 1, 2, 3 … within a task in the order of commit, so a cursor never misses one."""

    __tablename__ = "events"
    __table_args__ = (UniqueConstraint("task_id", "job_id", "generation", "sequence"),)

    task_id: Mapped[str] = mapped_column(ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(String(16), default="")  # "" = of the task itself
    generation: Mapped[int] = mapped_column(default=0)
    sequence: Mapped[int]  # within job and generation
    kind: Mapped[str] = mapped_column(String(16))
    payload: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(default=now)


class Epoch(Base):
    """The numbers of one epoch of one job: the points of its curves."""

    __tablename__ = "epochs"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)  # 1-based
    values: Mapped[dict[str, Any]]  # train_loss, val_loss, score, learning_rate, images_per_second, seconds, and the objective's metrics
    created_at: Mapped[datetime] = mapped_column(default=now)


class Model(Named, Base):
    """What a finished task leaves behind; `key` is its folder in the storage."""

    __tablename__ = "models"
    # The name is in the index, so that a search need not read the rows.
    __table_args__ = (Index("ix_models_listing", "workspace", "created_at", "id", "folded_name"),)

    id: Mapped[str] = mapped_column(String(16), primary_key=True, default=new_id)
    workspace: Mapped[str]
    task_id: Mapped[str | None] = mapped_column(String(16), index=True)
    parent_id: Mapped[str | None] = mapped_column(String(16))  # the model it was retrained from
    task_type: Mapped[str] = mapped_column(String(24))
    network: Mapped[str]
    pretraining: Mapped[str]
    classes: Mapped[list[Any]]
    metrics: Mapped[dict[str, Any]]
    key: Mapped[str]
    bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    created_by: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=now)


# ---------------------------------------------------------------- the faces, and housekeeping


class Delivery(Base):
    """How far a task's thread has been told: the notifier's cursor and the message it edits."""

    __tablename__ = "deliveries"
    __table_args__ = (Index("ix_deliveries_open", "face", "done"),)

    task_id: Mapped[str] = mapped_column(ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True)
    face: Mapped[str] = mapped_column(String(12), primary_key=True)
    place: Mapped[dict[str, Any]]
    cursor: Mapped[int] = mapped_column(default=0)
    progress_message: Mapped[str] = mapped_column(default="")
    progress_posted_at: Mapped[datetime | None]
    done: Mapped[bool] = mapped_column(default=False, server_default=text("false"))


class Lease(Base):
    """Who may run a periodic duty, and until when."""

    __tablename__ = "leases"

    name: Mapped[str] = mapped_column(String(40), primary_key=True)
    holder: Mapped[str]
    expires_at: Mapped[datetime]


class WorkerDevice(Base):
    """What a gpu worker trains on, as it says itself: what advice plans with."""

    __tablename__ = "worker_devices"

    worker: Mapped[str] = mapped_column(primary_key=True)  # its process identity
    kind: Mapped[str] = mapped_column(String(8))  # cpu, cuda, mps
    name: Mapped[str]
    memory_bytes: Mapped[int] = mapped_column(BigInteger)
    cores: Mapped[int]
    per_job: Mapped[int] = mapped_column(default=1)  # devices that train one job together
    seen_at: Mapped[datetime]


class TypedForm(Base):
    """What somebody typed into a dialog and was not accepted, where a chat cannot show the dialog again by itself."""

    __tablename__ = "typed_forms"

    id: Mapped[str] = mapped_column(String(16), primary_key=True, default=new_id)
    workspace: Mapped[str]
    person: Mapped[str]
    action: Mapped[str]
    values: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(default=now, index=True)


class TakenRequest(Base):
    """A request of a chat that has been taken: what is delivered twice is done once. Kept for a day."""

    __tablename__ = "taken_requests"

    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    taken_at: Mapped[datetime] = mapped_column(default=now, index=True)


class SlackInstallation(Base):
    """The app as installed in a Slack team, or in a whole organisation (`team_id` empty), with its bot token in `data`."""

    __tablename__ = "slack_installations"

    enterprise_id: Mapped[str] = mapped_column(String(32), primary_key=True, default="")
    team_id: Mapped[str] = mapped_column(String(32), primary_key=True, default="")
    data: Mapped[dict[str, Any]]
    installed_at: Mapped[datetime] = mapped_column(default=now)


class SlackOAuthState(Base):
    """A one-time secret that ties the end of an installation to its beginning."""

    __tablename__ = "slack_oauth_states"

    state: Mapped[str] = mapped_column(String(64), primary_key=True)
    expires_at: Mapped[datetime]
