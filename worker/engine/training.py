"""One job from its plan to its best weights: what `worker.jobs` calls."""

import json
import logging
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from safetensors.torch import load as load_safetensors
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from core.datasets.deriving import classes_in
from core.datasets.records import Record, load_records
from core.datasets.splitting import load_or_create_split
from core.db.session import Database
from core.db.tables import Dataset
from core.errors import UnavailableError
from core.events import Progress
from core.settings import Settings
from core.storage import Storage
from core.vocabulary import TaskType
from core.zoo.estimates import FRAMEWORK_BYTES, memory
from core.zoo.facts import DeviceFacts
from core.zoo.recipes import auto_batch_size
from worker.engine.augment import Augmentation, Normalisation
from worker.engine.average import WeightAverage
from worker.engine.cache import NoRoomError, PreparationCancelledError
from worker.engine.checkpoint import CheckpointFolder, newest_state
from worker.engine.compiling import Compilation, part_of_fixed_shape
from worker.engine.data import cached_pixels, decoded_anew
from worker.engine.device import Device, choose_device
from worker.engine.entries import Entries, Kept
from worker.engine.errors import TooFewImagesError
from worker.engine.loop import fit
from worker.engine.run import Run
from worker.engine.schedule import build_optimizer
from worker.engine.source import Source
from worker.engine.state import State, unpack, unpack_weights
from worker.engine.team import Team, TeamLostError
from worker.engine.telling import tell_epoch
from worker.link import Ask, FencedError, JobLink, TrainingJob, TrainingResult
from worker.networks import backbone_of, build
from worker.networks.classification import outputs_of
from worker.networks.detection import convolves_regions
from worker.networks.inheriting import inherit
from worker.objectives.classification import classification_objective
from worker.objectives.detection import Detection
from worker.objectives.objective import Objective
from worker.objectives.regions import RegionMasks
from worker.waiting import Patience

logger = logging.getLogger(__name__)

_MEMORY_SHARE = 0.8  # of the device's free memory that a step may be planned to take


def train(
    job: TrainingJob, *, database: Database, storage: Storage, settings: Settings, link: JobLink, team: Team | None = None
) -> TrainingResult:
    """Train a job, from its last checkpoint where there is one; with the other processes of a `team`, each of which calls this too.

    The best weights, and what was measured with them, lie in the job's checkpoint folder afterwards; `worker.reports.model_files` makes the model of them.

    Raises:
        DivergedError: when the loss is no number any more.
        StationmasterError: when the data, the disk, the device or the plan do not allow it; the message says which, and what to do.
        FencedError: when another worker has taken the job over.
        TeamLostError: when another process of the team is gone.
    """
    plan, team = job.plan, team or Team()

    def cancelled() -> bool:
        return bool(link.asked())

    seconds = 3600.0 if team.leads else 3900.0  # the leader, which can end the job in good order, loses patience first
    patience = Patience(link.waits, lambda: link.pausing() or cancelled(), seconds=seconds)
    checkpoints = CheckpointFolder(storage, job.checkpoint_folder, job.generation, patience_to_write(link, seconds), link.asked)
    # ---------------------------------------------------------------- what is to be learnt
    records, fingerprint = read_records(job, database)
    with team.leader_first():
        dealt = partial(load_or_create_split, storage, job.split_key, records, job.annotation_kind, plan.validation_percent, plan.seed)
        split = patience.until_it_passes(dealt, "The split into training and validation cannot be kept")
    row_of = {record.position: row for row, record in enumerate(records)}
    train_rows, validation_rows = (
        np.array([row_of[position] for position in side if position in row_of], np.int64) for side in (split.train, split.validation)
    )
    if not len(train_rows) or not len(validation_rows):
        raise TooFewImagesError(
            "The split leaves no images to train on, or none to validate with.", "Add images, or change the validation data percentage."
        )
    if not any(classes_in(records[row].value, job.annotation_kind) for row in train_rows):
        raise TooFewImagesError(
            "None of the images to train on shows anything of any class.",
            "Look at the dataset's annotations, and import it again with them.",
        )
    if job.task_type is TaskType.SINGLE_LABEL and len(job.classes) == 1:
        link.noticed(
            f"This dataset has one class only: whatever it is shown, the model will say “{job.classes[0]}”.",
            "Add images of what else there may be, as a second class.",
        )
    # ---------------------------------------------------------------- on what, and with which network
    device = choose_device(team.size)
    torch.manual_seed(plan.seed)
    saved = checkpoints.load(keep=team.leads)
    begun = (saved["state"]["epoch"], saved["state"]["step"]) if saved is not None else None
    if team.heard(begun) != begun:  # another worker, which has been taken over and does not know it yet, has written in between
        raise TeamLostError
    network = begin_network(job, storage, settings, learnt=saved is not None or job.copy is not None)
    if convolves_regions(network):  # as many as there are objects: cuDNN would look for the fastest way for each number of them
        torch.backends.cudnn.benchmark = False
    network = network.to(device.torch, memory_format=torch.channels_last)  # type: ignore[call-overload]
    # ---------------------------------------------------------------- what is true of its images, and their pixels, worked out once
    try:
        with team.leader_first():
            validation = validation_rows.tolist()
            built = partial(build_objective, job, records, validation, device, settings, cancelled)
            objective = patience.until_it_passes(built, "The masks cannot be kept")
            told = link if saved is None else None
            decoded = partial(pixels_of, records, fingerprint, plan.image_size, storage, settings, cancelled, patience, told)
            pixels = patience.until_it_passes(decoded, "The images cannot be read")
    except PreparationCancelledError:
        return TrainingResult(link.asked())
    if isinstance(objective, RegionMasks) and not job.parent_model_key:
        start_at_shares(network, objective.shares(train_rows), exclusive=objective.exclusive)
    # ---------------------------------------------------------------- a fresh start, or where the last one stopped
    optimizer = build_optimizer(network, plan, backbone_of(network, job.spec))
    average = WeightAverage(network, plan.ema_decay) if plan.ema_decay else None
    try:
        if saved is None:
            state = State(batch_size=team.heard(batch_size_of(job, len(train_rows), device, team.size)))
            state.begin_epoch(device.torch)
        else:
            state = unpack(saved, network, optimizer, average, device.torch)
            # A version before may have chosen by another metric of the same judging: later epochs are compared with it by this one's.
            state.best_score = state.best_metrics.get(objective.score_name, state.best_score)
        divide_batches(job, state, device, team, link)
        if job.copy is not None and state.copied < job.copy.generation:
            # Read by one: the other member may be at work, and write another before the next process reads.
            other = newest_state(storage, job.checkpoint_folder_of(job.copy.source)) if team.leads else {}
            unpack_weights(team.heard(other), network, optimizer, average)
            state.copied = job.copy.generation
            state.begin_epoch(device.torch)
        smallest, rest = divmod(len(train_rows), -(-len(train_rows) // state.batch_size))
        compilation = Compilation(
            part_of_fixed_shape(network), settings.compile, device, settings, link.noticed, sizes=1 + (rest > 0 or smallest % team.size > 0)
        )
        normalisation = Normalisation(job.spec.mean, job.spec.std)
        run = Run(
            plan=plan,
            settings=settings,
            link=link,
            device=device,
            network=network,
            optimizer=optimizer,
            average=average,
            objective=objective,
            source=Source(
                pixels,
                objective.targets,
                device,
                resident_share=settings.resident_share,
                host_bytes=settings.host_image_bytes,
                cancelled=cancelled,
            ),
            train_rows=train_rows,
            validation_rows=validation_rows,
            augmentation=Augmentation(plan, normalisation, objective.padding),
            normalisation=normalisation,
            checkpoints=checkpoints,
            state=state,
            image_size=plan.image_size,
            compilation=compilation,
            team=team,
            settled_norms=settled_norms(network, job),
            slice_end=job.slice_end,
        )
        retell_last_epoch(run)
        # ------------------------------------------------------------ train
        try:
            asked = fit(run)
        except (FencedError, TeamLostError):
            raise
        except Exception:
            try:
                checkpoints.drain()  # the last epoch may yet have to be written and told
            except FencedError:
                raise
            except Exception:  # what ended the training is told, not what follows from it
                logger.exception("the last checkpoint was not written")
            raise
        team.close()
    except PreparationCancelledError:
        return TrainingResult(link.asked())
    finally:
        checkpoints.close()
    return result_of(state, objective, asked)


def patience_to_write(link: JobLink, seconds: float = 3600.0) -> Patience:
    """Patience with a checkpoint, whose epoch counts also where a search has seen enough; where a person stops and keeps the best, for a minute."""

    def over() -> bool:
        return link.pausing() or link.asked() not in (Ask.GO_ON, Ask.ENOUGH, Ask.STOP_KEEP)

    return Patience(link.waits, over, seconds=seconds, hurries=lambda: link.asked() is Ask.STOP_KEEP)


def result_of(state: State, objective: Objective, asked: Ask) -> TrainingResult:
    """What came of a training that has ended so."""
    return TrainingResult(asked, state.best_score if state.best_epoch else None, dict(state.best_metrics), objective.baseline)


def begin_network(job: TrainingJob, storage: Storage, settings: Settings, *, learnt: bool) -> nn.Module:
    """The job's network with the weights it starts from, on the host; where it has `learnt` already, those follow from its checkpoint.

    Raises:
        StationmasterError: when weights that are needed are not to be had.
    """
    fresh = not learnt
    network: nn.Module = build(
        job.spec,
        job.task_type,
        len(job.classes),
        settings=settings,
        image_size=job.plan.image_size,
        pretrained=fresh and not job.parent_model_key,
    )
    features = bool(job.parent_model_key) or job.spec.pretraining != "none"
    if fresh and features and job.task_type in (TaskType.SINGLE_LABEL, TaskType.MULTI_LABEL):
        quieten_outputs(outputs_of(network, job.spec, len(job.classes)))
    if fresh and job.parent_model_key:
        start_from_parent(network, job, storage, settings)
    return network


def settled_norms(network: nn.Module, job: TrainingJob) -> frozenset[nn.Module]:
    """The batch norms that keep the statistics that they have, where batches are too small to have any of their own.

    Those that came with some. The others of networks that answer with places learn of the hundreds of places of a single image: at the mean of 0 and
    the variance of 1 that they begin with they would normalise nothing for the whole training. A classifier's deepest maps are too small for that.
    """
    part: nn.Module | None = network
    if job.task_type not in (TaskType.SINGLE_LABEL, TaskType.MULTI_LABEL) and not job.parent_model_key:
        over_backbone = job.spec.library in ("torchvision over timm", "segmentation-models-pytorch")
        part = None if job.spec.pretraining == "none" else backbone_of(network, job.spec) if over_backbone else network
    return frozenset(norm for norm in (part.modules() if part is not None else ()) if isinstance(norm, _BatchNorm))


def read_records(job: TrainingJob, database: Database) -> tuple[list[Record], str]:
    """The job's records, and the fingerprint under which their pixels are cached.

    Raises:
        TooFewImagesError: when there is nothing to learn from.
    """
    with database.read() as session:
        dataset = session.get(Dataset, job.dataset_id)
        records = load_records(session, job.dataset_id, job.annotation_set_id)
    if dataset is None or len(records) < 2:
        raise TooFewImagesError(
            f"The dataset {job.dataset_name} has fewer than two images that can be learnt from.", "Add images, or choose another dataset."
        )
    return records, dataset.fingerprint or dataset.id


def build_objective(
    job: TrainingJob,
    records: Sequence[Record],
    validation: Sequence[int],
    device: Device,
    settings: Settings,
    cancelled: Callable[[], bool],
) -> Objective:
    """The objective of the job's task type.

    Raises:
        PreparationCancelledError: when `cancelled()` says so while what is true of the images is worked out.
        UnavailableError: when the disk has no room for that.
    """
    if job.task_type in (TaskType.SINGLE_LABEL, TaskType.MULTI_LABEL):
        return classification_objective(
            records, validation, job.classes, job.plan, device.torch, several=job.task_type is TaskType.MULTI_LABEL
        )
    if job.task_type is TaskType.OBJECT_DETECTION:
        return Detection(records, job.classes, device.torch, instances=False)
    if job.spec.instances_only:
        instances = Detection(records, job.classes, device.torch, instances=True)
        instances.keep_masks(job.plan.image_size, settings, cancelled)
        return instances
    regions = RegionMasks(
        records, job.annotation_kind, job.classes, settings, cancelled, validation=validation, exclusive=job.plan.exclusive_regions
    )
    regions.keep_masks(job.plan.image_size)
    return regions


def pixels_of(
    records: Sequence[Record],
    fingerprint: str,
    size: int,
    storage: Storage,
    settings: Settings,
    cancelled: Callable[[], bool],
    patience: Patience,
    told: JobLink | None,
) -> Entries:
    """The images from the cache, or where it has no room for them decoded as the training goes, with `patience`; `told` hears of that.

    Raises as `cached_pixels`.
    """
    try:
        return Kept(cached_pixels(records, fingerprint, size, storage=storage, settings=settings, cancelled=cancelled))
    except NoRoomError as error:
        logger.info("%s", error.what)
        pixels = decoded_anew(records, size, storage, patience)
        if told is not None:
            told.noticed(
                f"The images take {pixels.nbytes / 1e9:.1f} GB once decoded, for which this host's cache has no room: "
                "they are decoded anew in each epoch. The numbers are the same, it takes longer.",
                f"{error.remedy} A smaller input size needs less, too.",
            )
        return pixels


def batch_size_of(job: TrainingJob, images: int, device: Device, devices: int = 1) -> int:
    """The plan's batch size, or for “auto” one that suits the number of images and, spread over so many `devices`, is thought to fit them."""
    if job.plan.batch_size != "auto":
        return min(job.plan.batch_size, images)
    wanted = auto_batch_size(job.spec, images)  # not what fits: larger ones gain little time on small networks and cost accuracy
    while wanted > 1 and not thought_to_fit(job, wanted, device, devices):
        wanted //= 2
    return min(wanted, images)


def thought_to_fit(job: TrainingJob, images: int, device: Device, devices: int) -> bool:
    """Whether the memory that is free now is thought to suffice for a step of so many images, spread over so many `devices`.

    Reckoned as for the advice; what torch itself takes is taken already.
    """
    devices_of_job = DeviceFacts(device.kind, per_job=devices)
    needed = memory(job.spec, job.plan.image_size, images, devices_of_job, classes=len(job.classes)) - FRAMEWORK_BYTES
    free = device.free_bytes() // (devices if device.is_cpu else 1)  # processes on one CPU share the host's
    return needed <= _MEMORY_SHARE * free


def divide_batches(job: TrainingJob, state: State, device: Device, team: Team, link: JobLink) -> None:
    """Have the batches go through the network in parts that are thought to fit, and smaller ones where the training was lost for lack of memory.

    Thought of on a CPU only: a GPU says when its memory runs out, of a CPU's the system kills whoever is large.
    """
    parts = state.accumulation
    while device.is_cpu and parts < state.batch_size and not thought_to_fit(job, -(-state.batch_size // parts), device, team.size):
        parts *= 2
    lost = job.plan.parts > state.planned_parts
    parts = team.heard(min(parts * max(1, job.plan.parts // state.planned_parts), state.batch_size))
    state.planned_parts = job.plan.parts
    if parts > state.accumulation:
        state.accumulation = parts
        why = "the training was lost for lack of memory" if lost else "free memory is not thought to suffice for more"
        link.noticed(
            f"The batch of {state.batch_size} images goes through the network {-(-state.batch_size // (parts * team.size))} at a time: {why}.",
            "Free the host of other work, or choose a smaller input size or network.",
        )


def quieten_outputs(layers: Sequence[nn.Module]) -> None:
    """Let new layers that give logits of pre-trained features begin near zero, standard deviation 0.01.

    Some libraries' defaults are twenty times as large: their gradients spoil the features before the outputs have learnt to use them. On
    5,000 digits, tf_efficientnet_lite0 at 48 px had 97.9 % after two epochs instead of 94.1 %.
    """
    for layer in layers:
        nn.init.trunc_normal_(layer.weight, std=0.01)  # type: ignore[arg-type]
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]


@torch.no_grad()
def start_at_shares(network: nn.Module, shares: torch.Tensor, *, exclusive: bool) -> None:
    """Let new outputs for regions say at first of every place how much of the images each class covers (Lin et al. 2017, 4.1).

    Else the first epoch is spent on learning that most places show nothing: on the scattered digits (U-Net on lite0, 128 px) Dice was 0.01
    after it instead of 0.12.
    """
    outputs = [module for module in network.modules() if isinstance(module, nn.Conv2d) and module.out_channels == len(shares)]
    if outputs and outputs[-1].bias is not None:
        shares = shares.clamp(1e-4, 1 - 1e-4)
        rest = (1 - shares.sum()).clamp(min=1e-2) if exclusive else 1 - shares  # the background's, whose logit is 0
        outputs[-1].bias.copy_((shares / rest).log())


def start_from_parent(network: nn.Module, job: TrainingJob, storage: Storage, settings: Settings) -> None:
    """Load a finished model's weights; of its outputs those of the classes that the job has too, by name.

    Raises:
        UnavailableError: when the model's files are gone, or do not fit this network.
    """
    try:
        card = json.loads(storage.read(f"{job.parent_model_key}/model_card.json"))
        weights = load_safetensors(storage.read(f"{job.parent_model_key}/model.safetensors"))
    except FileNotFoundError as error:
        raise UnavailableError("The model to start from has been deleted.", "Choose another model.") from error
    wider = build(job.spec, job.task_type, len(job.classes) + 1, settings=settings, image_size=job.plan.image_size, pretrained=False)
    inherit(network, job.classes, wider, weights, [str(name) for name in card["classes"]])


def retell_last_epoch(run: Run) -> None:
    """Tell of the last checkpointed epoch once more: the worker may have been killed between its checkpoint and the telling."""
    if not run.state.history:
        return
    last = run.state.history[-1]
    numbers = {name: value for name, value in last.items() if name not in ("event", "is_best", "metrics")}
    tell_epoch(run, numbers, last["metrics"], last["is_best"], Progress(**last["event"]))
