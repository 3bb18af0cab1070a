"""RQ's entry point for trainings, thin: claim the job, train, leave the model. It never raises: the database knows how the job ended."""

import logging
from functools import partial

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.db.tables import AnnotationSet, Dataset, Job, Model, Task
from core.errors import NotFoundError, StationmasterError
from core.process_identity import own_identity
from core.settings import Settings
from core.storage import Storage
from core.tasks.hyperparameters import TrainingPlan
from core.tasks.lifecycle import (
    Claim,
    Completion,
    FencedError,
    NewModel,
    claim_job,
    complete_task,
    fail_completion,
    fail_job,
    finish_job,
    hand_back,
    remark,
    resume_ending,
    stop_job,
)
from core.tasks.states import State
from core.tasks.sweeping import checkpoints_of, models_of
from core.tuning.lineage import begin_slice, latest_copy, save_diverged
from core.tuning.population import slice_end
from core.tuning.scores import why_enough
from core.vocabulary import AnnotationKind, TaskType, Tuning
from core.zoo.catalogue import find_spec
from core.zoo.devices import host_device
from worker.database_link import DatabaseLink
from worker.engine.device import choose_device
from worker.engine.errors import DivergedError
from worker.engine.team import Team, TeamLostError
from worker.engine.training import train
from worker.failures import explain
from worker.link import Ask, CopyOrder, TrainingJob, TrainingResult
from worker.pausing import PAUSE
from worker.ranks import launch
from worker.reports.model_files import write_model
from worker.waiting import Patience, is_database_away, may_pass
from worker.workplace import Workplace

logger = logging.getLogger(__name__)

_DAY_SECONDS = 86_400.0


def run_training(job_id: str, generation: int) -> None:
    """Do one generation of one training job, from wherever it stands to its end, a stop, or a pause."""
    try:
        workplace = Workplace.open()
        claim = _claim(workplace, job_id, generation)
        if claim is None:
            logger.info("job %s, generation %d, is not to be had any more", job_id, generation)
        elif workplace.settings.devices_per_job > 1 and not claim.ending:
            launch(workplace, claim, job_id, generation)
        else:
            carry_out(workplace, claim, job_id, generation, Team())
    except FencedError:
        logger.warning("job %s, generation %d, has been taken over: nothing more is written", job_id, generation)
    except StationmasterError as error:
        # The queue's entry goes with this process; the reconcile loop sees to it that another takes the job.
        logger.error("job %s cannot be done now: %s", job_id, error)
    except Exception:  # RQ must not see it: with it would come retries and clean-ups that know nothing of generations
        logger.exception("job %s, generation %d, ended unexpectedly", job_id, generation)


def _claim(workplace: Workplace, job_id: str, generation: int) -> Claim | None:
    device = _device_name(workplace.settings.devices_per_job)
    with workplace.database.write() as session:
        claim = claim_job(session, job_id, generation, worker=own_identity(), device=device)
        if claim is not None and claim.search == Tuning.POPULATION and not claim.ending:
            begin_slice(session, job_id, generation)
    return claim


def _device_name(devices: int) -> str:
    """What the job trains on. Where others train it, this process must not take some of a GPU's memory by asking torch."""
    if devices == 1:
        return choose_device().name
    found = host_device(devices)
    return found.name if found.kind == "cuda" else f"{devices} × {choose_device(devices).name}"


def carry_out(workplace: Workplace, claim: Claim, job_id: str, generation: int, team: Team) -> None:
    """Do what was claimed, in this process, which leads the team.

    Raises:
        FencedError: when the job has been taken over.
        TeamLostError: when another process of the team is gone; the job is still held then.
        UnavailableError: when the database is away.
    """
    judged = claim.search in (Tuning.GRID, Tuning.RANDOM)
    link = DatabaseLink(
        workplace.database,
        workplace.settings,
        claim.task_id,
        job_id,
        generation,
        pause=PAUSE,
        before=claim.device_seconds,
        judge=(lambda session, epoch: why_enough(session, job_id, epoch)) if judged else None,
        devices=team.size,
    )
    link.start()
    try:
        result = _train(workplace, link, claim, job_id, generation, team)
    finally:
        link.stop()
    if result is not None and result.asked in (Ask.PAUSE, Ask.SLICE):
        return
    with workplace.database.read() as session:
        task = session.get(Task, claim.task_id)
        ended = task is not None and State(task.state).ended
    if ended:
        _delete(workplace.storage, checkpoints_of(claim.task_id))


def _train(workplace: Workplace, link: DatabaseLink, claim: Claim, job_id: str, generation: int, team: Team) -> TrainingResult | None:
    """Train and end the job. Returns how the training ended, None where it failed or had ended before."""
    result = None
    try:
        if claim.ending:
            completion = link.persist(lambda session: resume_ending(session, job_id, generation))
        else:
            job = _load(workplace, job_id, generation)
            result = train(job, database=workplace.database, storage=workplace.storage, settings=workplace.settings, link=link, team=team)
            completion = _end(link, result, job_id, generation)
    except (FencedError, TeamLostError):
        raise
    except Exception as error:  # whatever it is, the person is told, and the other jobs of the task go on
        if is_database_away(error):
            raise
        if isinstance(error, DivergedError) and claim.search == Tuning.POPULATION and _saved(workplace, link, job_id, generation):
            return None
        what, remedy = explain(error, "training")
        asked = link.asked()
        if asked in (Ask.STOP_KEEP, Ask.STOP_DISCARD, Ask.ENOUGH) or (asked is Ask.PAUSE and may_pass(error)):
            # It was to end anyway; or another goes on from its last checkpoint, where there is room.
            result = TrainingResult(asked)
            completion = _end(link, result, job_id, generation)
        else:
            link.flush()
            completion = link.persist(
                lambda session: fail_job(session, job_id, generation, what, remedy, device_seconds=link.device_seconds)
            )
    if completion is not None:
        _complete(workplace, link, completion, result, job_id, generation)
    return result


def _end(link: DatabaseLink, result: TrainingResult, job_id: str, generation: int) -> Completion | None:
    link.flush()
    seconds = link.device_seconds
    if result.asked in (Ask.PAUSE, Ask.SLICE):
        _hand_back(link, job_id, generation, between_slices=result.asked is Ask.SLICE)
        return None
    if result.asked in (Ask.GO_ON, Ask.ENOUGH):
        # A search may have had enough of an epoch that could not be written: what was recorded counts.
        score = result.score if result.asked is Ask.GO_ON else None
        return link.persist(
            lambda session: finish_job(session, job_id, generation, score=score, metrics=result.metrics, device_seconds=seconds)
        )
    return link.persist(lambda session: stop_job(session, job_id, generation, device_seconds=seconds))


def _hand_back(link: DatabaseLink, job_id: str, generation: int, *, between_slices: bool = False) -> None:
    seconds = link.device_seconds
    link.persist(lambda session: hand_back(session, job_id, generation, device_seconds=seconds, between_slices=between_slices))
    link.ring_work()


def _saved(workplace: Workplace, link: DatabaseLink, job_id: str, generation: int) -> bool:
    """Whether a member of a population that has diverged could be handed back, to go on from a better one."""
    link.flush()
    seconds = link.device_seconds
    saved = link.persist(lambda session: save_diverged(session, workplace.settings, job_id, generation, device_seconds=seconds))
    if saved:
        logger.info("job %s, generation %d, has diverged and is to go on from another's weights", job_id, generation)
        link.ring_work()
    return saved


def _complete(
    workplace: Workplace, link: DatabaseLink, completion: Completion, result: TrainingResult | None, job_id: str, generation: int
) -> None:
    """Make the model of the task's best job and end the task with it, exactly once."""
    storage = workplace.storage
    # A key of this generation's own: a worker that was taken over, and does not know yet, writes elsewhere.
    folder = models_of(completion.task_id)
    key = f"{folder}/{generation}-{job_id}"
    baseline = result.baseline if result is not None else None
    outcome = TrainingResult(Ask.GO_ON, completion.score, completion.metrics, baseline)
    seconds = link.device_seconds

    def over() -> bool:
        return link.asked() is not Ask.STOP_DISCARD and PAUSE.is_set()  # what is discarded ends at the next try

    def make() -> str | None:
        discarded = link.asked() is Ask.STOP_DISCARD
        model, lacking = (None, []) if discarded else _written(workplace, completion, outcome, key, generation)

        def end(session: Session) -> str | None:
            for what, remedy in lacking:
                remark(session, job_id, generation, what, remedy)
            return complete_task(session, job_id, generation, model, device_seconds=seconds)

        return link.persist(end)

    # What was trained is safe in the checkpoints meanwhile, and only there.
    patience = Patience(link.waits, over, seconds=_DAY_SECONDS, then="the task ends without")
    try:
        model_id = patience.until_it_passes(make, "The model cannot be written yet")
    except FencedError:
        # The job may have ended by this very worker, whose database took the end and could not say so any more.
        if not _is_kept(workplace, key):
            _delete(storage, key)
        raise
    except Exception as error:  # whatever it is, the person is told
        if is_database_away(error):
            raise
        link.flush()
        if may_pass(error) and PAUSE.is_set():
            _hand_back(link, job_id, generation)
            return
        what, remedy = explain(error, "making of the model")
        failed = partial(fail_completion, job_id=job_id, generation=generation, what=what, remedy=remedy, device_seconds=seconds)
        link.persist(failed)
        model_id = None
    if model_id is None:
        _delete(storage, folder)
        return
    try:
        for file in storage.list(folder):  # what workers left that were lost while they made it
            if not file.startswith(f"{key}/"):
                storage.delete(file)
    except Exception:  # the task has ended well
        logger.exception("what is older than %s is left in the storage", key)


def _written(
    workplace: Workplace,
    completion: Completion,
    outcome: TrainingResult,
    key: str,
    generation: int,
) -> tuple[NewModel, list[tuple[str, str]]]:
    """The model of the task's best job, complete in its folder, or nothing there; and in words what it lacks, each with a remedy."""
    storage, lacking = workplace.storage, list[tuple[str, str]]()

    def lacks(what: str, remedy: str) -> None:
        lacking.append((what, remedy))

    try:
        best = _load(workplace, completion.job_id, generation)
        report = write_model(best, outcome, key, database=workplace.database, storage=storage, settings=workplace.settings, noticed=lacks)
        size = sum(int(storage.info(file)["size"]) for file in storage.list(key))
    except Exception:
        _delete(storage, key)  # it may be for want of room that it failed
        raise
    return NewModel(key, best.classes, size, report), lacking


def _is_kept(workplace: Workplace, key: str) -> bool:
    with workplace.database.read() as session:
        return session.scalar(select(Model.id).where(Model.key == key)) is not None


def _delete(storage: Storage, key: str) -> None:
    """Delete what is of no use, if it can be done; that it cannot is only logged."""
    try:
        storage.delete(key)
    except Exception:
        logger.exception("%s is left in the storage", key)


def _load(workplace: Workplace, job_id: str, generation: int) -> TrainingJob:
    """All that the engine must know of a job.

    Raises:
        StationmasterError: when its network, dataset or parent model is no longer there.
    """
    with workplace.database.read() as session:
        return load_training_job(session, workplace.settings, job_id, generation)


def load_training_job(session: Session, settings: Settings, job_id: str, generation: int) -> TrainingJob:
    """As `_load`, in a transaction of the caller's."""
    job = session.get(Job, job_id)
    task = session.get(Task, job.task_id) if job is not None else None
    dataset = session.get(Dataset, task.dataset_id) if task is not None else None
    annotations = session.get(AnnotationSet, task.annotation_set_id) if task is not None else None
    if job is None or task is None:
        raise NotFoundError(f"There is no training job {job_id}.", "Its task has been deleted.")
    if dataset is None or annotations is None:
        raise NotFoundError("The dataset of this task is gone.", "Import it again and start a new task.")
    parent_key = ""
    if task.source_model_id:
        parent = session.get(Model, task.source_model_id)
        if parent is None:
            raise NotFoundError("The model that was to be retrained has been deleted.", "Choose another one.")
        parent_key = parent.key
    plan = TrainingPlan.model_validate(job.plan)
    sliced = task.search.get("tuning") == Tuning.POPULATION
    copy = latest_copy(session, job.id) if sliced else None
    return TrainingJob(
        task_id=task.id,
        job_id=job.id,
        job_number=job.number,
        generation=generation,
        task_name=task.name,
        task_type=TaskType(task.task_type),
        spec=find_spec(task.network, task.pretraining, settings),
        plan=plan,
        dataset_id=dataset.id,
        dataset_name=dataset.name,
        annotation_set_id=annotations.id,
        annotation_kind=AnnotationKind(annotations.kind),
        classes=tuple(str(name) for name in annotations.classes),
        parent_model_key=parent_key,
        slice_end=slice_end(job.epoch, plan.epochs) if sliced else 0,
        copy=CopyOrder(copy.generation, copy.source) if copy is not None else None,
    )
