"""Whole small trainings: they learn, go on where they stopped, and say in words what went wrong."""

import json
import math
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from itertools import chain
from typing import Any

import pytest
import torch
from PIL import Image
from small_networks import INSTANCES, REGIONS

from core.db.tables import Dataset
from core.vocabulary import TaskType
from core.zoo import estimates
from core.zoo.facts import DeviceFacts
from worker import waiting
from worker.engine import checkpoint, loop, telling, training
from worker.engine.cache import PreparationCancelledError
from worker.engine.checkpoint import CheckpointFolder, Copies, newest
from worker.engine.device import Device, choose_device
from worker.engine.entries import Kept
from worker.engine.errors import DivergedError, OutOfMemoryError, TooFewImagesError, is_out_of_memory
from worker.engine.recomputing import _Recomputing
from worker.engine.state import State
from worker.link import Ask, FencedError
from worker.reports.model_files import write_model


def weights_of(bench: Any, job: Any) -> dict[str, torch.Tensor]:
    saved = newest(bench.storage, job.checkpoint_folder)
    assert saved is not None
    return saved.state["network"]


def assert_same_weights(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


def numbers(link: Any) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in values.items() if name not in ("seconds", "images_per_second", "peak_memory_bytes")}
        for _, values in link.epochs
    ]


def test_it_learns_what_only_the_images_tell(bench: Any) -> None:
    job = bench.job(bench.stripes(per_class=40), epochs=5)
    result, link = bench.train(job)
    assert result.asked is Ask.GO_ON
    assert result.score is not None and result.score >= 0.95
    assert result.baseline == pytest.approx(0.5)
    assert {"accuracy", "balanced_accuracy", "macro_f1", "auroc", "baseline_accuracy"} <= result.metrics.keys()
    assert [number for number, _ in link.epochs] == [1, 2, 3, 4, 5]
    assert link.epochs[-1][1]["train_loss"] < link.epochs[0][1]["train_loss"]
    assert result.score == max(values["score"] for _, values in link.epochs)
    json.dumps(link.epochs)  # goes into the database as it is


def test_several_labels_an_image(bench: Any) -> None:
    result, _link = bench.train(bench.job(bench.several_labels(), epochs=6))
    assert result.metrics["map"] == result.score >= 0.95
    assert {"micro_f1", "macro_f1", "auroc", "baseline_map"} <= result.metrics.keys()
    assert result.baseline == pytest.approx(0.5, abs=0.2)


def test_the_same_seed_gives_the_same_numbers(bench: Any) -> None:
    dataset = bench.stripes()
    everything = {"horizontal_flip": True, "resized_crop": True, "rotation": True, "colour_jitter": True, "ema_decay": 0.9, "epochs": 2}
    _, first = bench.train(bench.job(dataset, task="a", **everything))
    _, second = bench.train(bench.job(dataset, task="b", **everything))
    _, other = bench.train(bench.job(dataset, task="c", seed=1, **everything))
    assert numbers(first) == numbers(second)
    assert numbers(first) != numbers(other)


@pytest.mark.parametrize("stop_at", [1, 4, 8], ids=["first-step", "first-epoch", "later"])
@pytest.mark.parametrize(
    "changes",
    [{}, {"ema_decay": 0.95, "optimizer": "sgd", "momentum": 0.9, "learning_rate": 0.02, "resized_crop": True}],
    ids=["adamw", "sgd-average-crop"],
)
def test_a_paused_training_ends_exactly_as_an_unbroken_one(bench: Any, recording_link: Any, stop_at: int, changes: dict[str, Any]) -> None:
    dataset = bench.stripes()  # 36 training images, 3 steps an epoch
    whole = bench.job(dataset, task="whole", **changes)
    unbroken, unbroken_link = bench.train(whole)

    steps = 0

    def pause(link: Any) -> Ask:
        nonlocal steps
        steps = sum(1 for _ in link.events)
        return Ask.PAUSE if link.asked_times > stop_at + 3 else Ask.GO_ON

    broken = bench.job(dataset, task="broken", **changes)
    paused, first_link = bench.train(broken, recording_link(pause))
    assert paused.asked is Ask.PAUSE
    resumed, second_link = bench.train(replace(broken, generation=2))

    assert resumed.asked is Ask.GO_ON
    assert resumed.score == unbroken.score and resumed.metrics == unbroken.metrics
    assert_same_weights(weights_of(bench, whole), weights_of(bench, broken))
    told = dict(first_link.epochs + second_link.epochs)
    assert sorted(told) == [1, 2, 3]
    assert [numbers_of["train_loss"] for _, numbers_of in sorted(told.items())] == [
        values["train_loss"] for _, values in unbroken_link.epochs
    ]


def test_a_killed_training_trains_no_checkpointed_epoch_again_and_tells_of_it(
    bench: Any, recording_link: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = bench.stripes()
    whole = bench.job(dataset, task="whole")
    unbroken, _ = bench.train(whole)

    class KilledError(BaseException):
        """As a kill: nothing of the engine runs after it."""

    class Dying(recording_link):  # type: ignore[misc]
        def epoch_ended(self, number: int, values: dict[str, Any], **rest: Any) -> None:
            if number == 2:
                raise KilledError  # the checkpoint of epoch 2 is safe, and nobody has been told
            super().epoch_ended(number, values, **rest)

    job = bench.job(dataset, task="killed")
    with pytest.raises(KilledError):
        bench.train(job, Dying())

    trained: list[int] = []
    real = loop.one_step
    monkeypatch.setattr(loop, "one_step", lambda run, fetch, rows, epoch: (trained.append(epoch), real(run, fetch, rows, epoch))[1])
    resumed, link = bench.train(replace(job, generation=2))
    assert set(trained) == {3}
    assert [number for number, _ in link.epochs] == [2, 3]
    assert resumed.metrics == unbroken.metrics
    assert_same_weights(weights_of(bench, whole), weights_of(bench, job))


def test_a_finished_training_called_again_only_says_how_it_ended(bench: Any) -> None:
    job = bench.job(bench.stripes(), epochs=2)
    first, _ = bench.train(job)
    second, link = bench.train(replace(job, generation=2))
    assert second == first
    assert [number for number, _ in link.epochs] == [2] and not link.events


def test_a_stopped_training_keeps_its_best_epoch(bench: Any, recording_link: Any) -> None:
    link = recording_link(lambda link: Ask.STOP_KEEP if link.epochs else Ask.GO_ON)
    job = bench.job(bench.stripes(), epochs=50)
    result, link = bench.train(job, link)
    assert result.asked is Ask.STOP_KEEP
    assert result.score is not None
    saved = newest(bench.storage, job.checkpoint_folder)
    assert saved is not None and saved.best is not None and saved.best.score == result.score


def test_a_hiccup_of_the_storage_after_a_stop_costs_no_epoch(bench: Any, recording_link: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first epoch is being written when a person stops, and is the only one that there is to keep."""
    monkeypatch.setattr(waiting, "AGAIN_SECONDS", 0.05)
    save, refusals, stopped = checkpoint._save, [ConnectionResetError()], threading.Event()

    def reset_once(storage: Any, key: str, value: dict[str, Any]) -> None:
        if refusals:
            stopped.set()
            raise refusals.pop()
        save(storage, key, value)

    monkeypatch.setattr(checkpoint, "_save", reset_once)
    link = recording_link(lambda _: Ask.STOP_KEEP if stopped.is_set() else Ask.GO_ON)
    job = bench.job(bench.stripes(), epochs=50)
    result, link = bench.train(job, link)
    assert result.asked is Ask.STOP_KEEP and [number for number, _ in link.epochs] == [1]
    saved = newest(bench.storage, job.checkpoint_folder)
    assert saved is not None and saved.best is not None and saved.best.epoch == 1
    assert not [notice for notice in link.notices if "tried again" in notice]


def test_a_stop_before_the_first_epoch_leaves_nothing_to_keep(bench: Any, recording_link: Any) -> None:
    result, _ = bench.train(bench.job(bench.stripes()), recording_link(lambda link: Ask.STOP_DISCARD))
    assert result.asked is Ask.STOP_DISCARD and result.score is None


def test_a_stop_while_images_are_brought_to_the_device_is_a_stop(bench: Any, recording_link: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = threading.Event()

    def source(*_: Any, cancelled: Callable[[], bool], **__: Any) -> Any:
        stopped.set()
        assert cancelled()
        raise PreparationCancelledError

    monkeypatch.setattr(training, "Source", source)
    link = recording_link(lambda _: Ask.STOP_KEEP if stopped.is_set() else Ask.GO_ON)
    result, _ = bench.train(bench.job(bench.stripes()), link)
    assert result.asked is Ask.STOP_KEEP and result.score is None


def test_a_job_that_was_taken_over_writes_nothing_more(bench: Any, recording_link: Any) -> None:
    job = bench.job(bench.stripes(), epochs=12)

    def taken(link: Any) -> Ask:
        if link.epochs:
            raise FencedError
        return Ask.GO_ON

    with pytest.raises(FencedError):
        bench.train(job, recording_link(taken))
    before = {key: bench.storage.read(key) for key in bench.storage.list(job.checkpoint_folder)}
    state = newest(bench.storage, job.checkpoint_folder)
    assert state is not None
    reached = state.state["state"]["epoch"]
    assert 1 <= reached < 12
    # The successor goes on, and what the old worker still held in its hands changed nothing.
    result, link = bench.train(replace(job, generation=2))
    assert [number for number, _ in link.epochs] == list(range(reached, 13))
    assert before and result.score is not None


@pytest.mark.parametrize(
    ("losses", "scores", "trained"),
    [
        ([1.0, 0.8, 0.9, 0.85, 0.1], [0.5, 0.5, 0.5, 0.5, 0.5], 4),
        ([1.0, 0.8, 0.7995, 0.799, 0.1], [0.5, 0.5, 0.5, 0.5, 0.5], 4),  # a hair lower each time: it has settled
        ([1.0, 0.8, 0.797, 0.794, 0.793, 0.792, 0.1], [0.5] * 7, 6),  # but many hairs count
        ([1.0, 1.2, 1.4, 1.5, 1.6, 1.7], [0.5, 0.6, 0.7, 0.7, 0.6, 0.9], 5),  # surer and surer, also where wrong, and oftener right
    ],
)
def test_early_stop_once_neither_loss_nor_score_gets_better(
    bench: Any, monkeypatch: pytest.MonkeyPatch, losses: list[float], scores: list[float], trained: int
) -> None:
    job = bench.job(bench.stripes(per_class=8), epochs=30, early_stop=True, patience=2)
    told = iter(zip(losses, scores, strict=True))
    real = loop.evaluate

    def evaluate(run: Any) -> Any:
        loss, score = next(told)
        return replace(real(run), loss=loss, trained_loss=None, score=score)

    monkeypatch.setattr(loop, "evaluate", evaluate)
    result, link = bench.train(job)
    assert [number for number, _ in link.epochs] == list(range(1, trained + 1))
    assert any("Stopped early" in notice for notice in link.notices)
    assert result.asked is Ask.GO_ON


@pytest.mark.parametrize(
    ("shown", "trained"),
    [([0.05, 0.06, 0.07, 0.08, 0.09], [0.9, 0.8, 0.7, 0.6, 0.5]), ([0.9, 0.8, 0.7, 0.6, 0.5], [0.25, 0.26, 0.27, 0.28, 0.29])],
)
def test_early_stop_minds_the_loss_that_is_shown_and_the_one_that_is_trained(
    bench: Any, monkeypatch: pytest.MonkeyPatch, shown: list[float], trained: list[float]
) -> None:
    """Label smoothing forbids certainty: without it, as people see it, the loss has its minimum long before the training is at its end.

    With it, a small validation set that is all told apart with certainty has a rising one.
    """
    job = bench.job(bench.stripes(per_class=8), epochs=5, early_stop=True, patience=1, label_smoothing=0.1)
    told = iter(zip(shown, trained, strict=True))
    real = loop.evaluate

    def evaluate(run: Any) -> Any:
        loss, trained_loss = next(told)
        return replace(real(run), loss=loss, trained_loss=trained_loss, score=0.5)

    monkeypatch.setattr(loop, "evaluate", evaluate)
    _, link = bench.train(job)
    assert [values["val_loss"] for _, values in link.epochs] == shown


def test_without_early_stop_all_epochs_are_trained(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    job = bench.job(bench.stripes(per_class=8), epochs=4, early_stop=False, patience=1)
    real = loop.evaluate
    losses = iter([1.0, 2.0, 3.0, 4.0])
    monkeypatch.setattr(loop, "evaluate", lambda run: replace(real(run), loss=next(losses), trained_loss=None, score=0.5))
    _, link = bench.train(job)
    assert len(link.epochs) == 4


@pytest.mark.parametrize(
    ("best", "told"),
    [
        (2, ["Epoch 2: never"]),
        (1, []),  # one that is worse than what is kept anyway
        (3, ["Epoch 2: never", "What was remarked of epoch 2 does not hold of the best epoch, 3, which is the model."]),
    ],
)
def test_remarks_at_the_end_concern_the_epoch_that_is_the_model(
    bench: Any, monkeypatch: pytest.MonkeyPatch, best: int, told: list[str]
) -> None:
    """Only the second of three epochs gives rise to one."""
    real, epochs = loop.evaluate, iter([1, 2, 3])

    def judged(run: Any) -> Any:
        epoch = next(epochs)
        remarks = {"never-predicted": ("never", "")} if epoch == 2 else {}
        return replace(real(run), score=float(epoch == best), remarks=remarks)

    monkeypatch.setattr(loop, "evaluate", judged)
    _, link = bench.train(bench.job(bench.stripes(per_class=8), epochs=3))
    assert link.notices == told


@pytest.mark.parametrize("schedule", ["constant", "step", "cosine", "one-cycle"])
def test_every_schedule_trains(bench: Any, schedule: str) -> None:
    result, link = bench.train(bench.job(bench.stripes(per_class=12), learning_rate_schedule=schedule, warmup_epochs=0.5))
    assert result.score is not None
    assert all(0 < values["learning_rate"] <= 3e-3 for _, values in link.epochs)


def test_a_loss_that_is_not_finite_ends_with_a_remedy(bench: Any) -> None:
    job = bench.job(
        bench.stripes(),
        optimizer="sgd",
        learning_rate=1.0,
        momentum=0.99,
        weight_decay=0.1,
        learning_rate_schedule="constant",
        epochs=200,
        early_stop=False,
    )
    with pytest.raises(DivergedError) as caught:
        _train_until_diverged(bench, job)
    assert "learning rate 1" in caught.value.what
    assert "lower learning rate" in caught.value.remedy
    saved = newest(bench.storage, job.checkpoint_folder)
    assert saved is not None and saved.best is not None, "one epoch was judged before, and is sound"
    assert saved.best.epoch == 1 and saved.best.metrics["accuracy"] == saved.best.score
    assert all(bool(torch.isfinite(tensor).all()) for tensor in saved.state["network"].values())


def test_a_loss_that_explodes_in_the_first_epoch_is_said_before_all_else(bench: Any) -> None:
    plan = {"optimizer": "sgd", "momentum": 0.9, "learning_rate": 1.0, "learning_rate_schedule": "constant", "batch_size": 4}
    job = bench.job(bench.stripes(), epochs=1, **plan)
    result, link = bench.train(job)
    assert link.notices[0].startswith("The loss explodes") and "in epoch 1" in link.notices[0]
    write_model(job, result, "models/m", database=bench.database, storage=bench.storage, settings=bench.settings)
    assert json.loads(bench.storage.read("models/m/model_card.json"))["reading"]["verdict"] == "exploding"


def _train_until_diverged(bench: Any, job: Any) -> None:
    real = loop.learning_rate_factor
    try:
        loop.learning_rate_factor = lambda plan, step, steps: 1.0 if step < 4 else 1e30  # type: ignore[assignment]
        bench.train(job)
    finally:
        loop.learning_rate_factor = real


@pytest.fixture
def memory_for(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
    """Have the device run out of memory in a forward pass wherever it does not fit; gives the sizes of what went through in training."""

    def limit(fits: Callable[[Any, int], bool], judging: Callable[[int], bool] = lambda images: True) -> list[int]:
        went_through: list[int] = []

        def allocate(network: Any, inputs: tuple[torch.Tensor]) -> None:
            images = len(inputs[0])
            if not (fits(network, images) if network.training else judging(images)):
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
            if network.training:
                went_through.append(images)

        def limited(*arguments: Any, **rest: Any) -> torch.nn.Module:
            network = real(*arguments, **rest)
            network.register_forward_pre_hook(allocate)
            return network

        real = training.begin_network
        monkeypatch.setattr(training, "begin_network", limited)
        return went_through

    return limit


@pytest.mark.parametrize(
    ("said", "is_memory"),
    [
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", True),
        ("cuDNN error: CUDNN_STATUS_ALLOC_FAILED", True),
        ("GET was unable to find an engine to execute this computation", True),
        ("MPS backend out of memory (MPS allocated: 8.00 GB)", True),
        ("mat1 and mat2 shapes cannot be multiplied", False),
    ],
)
def test_each_library_has_its_own_words_for_memory_that_has_run_out(said: str, is_memory: bool) -> None:
    assert is_out_of_memory(RuntimeError(said)) is is_memory


def test_out_of_memory_is_mended_by_smaller_parts(bench: Any, memory_for: Any) -> None:
    job = bench.job(bench.stripes())
    went_through = memory_for(lambda _, images: images <= 4)
    result, link = bench.train(job)
    assert result.score is not None
    told = [notice for notice in link.notices if "out of memory" in notice]
    assert len(told) == 2 and "4 at a time" in told[-1]
    assert set(went_through) == {4} and sum(went_through) == 3 * 36, "every image of every epoch, none twice"
    state = newest(bench.storage, job.checkpoint_folder)
    assert state is not None and state.state["state"]["accumulation"] == 4


def test_a_batch_that_memory_ran_out_for_on_its_way_is_fetched_again(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each image of an epoch is learnt from once, all the same."""
    job = bench.job(bench.stripes(per_class=20), epochs=1, batch_size=8)
    real, asked = Kept.of, []

    def of(entries: Kept, rows: Any, *over: Any) -> Any:
        asked.append(rows.tolist())
        if len(asked) == 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return real(entries, rows)

    monkeypatch.setattr(Kept, "of", of)
    _, link = bench.train(job)
    assert asked[2] == asked[3], "the same batch"
    learnt = [*chain(*asked[:2], *asked[3:5])]
    assert len(learnt) == len(set(learnt)) == 30
    assert [notice for notice in link.notices if "4 at a time" in notice]


@pytest.mark.parametrize("singles", [False, True])
def test_judging_goes_in_parts_of_its_own(bench: Any, memory_for: Any, singles: bool) -> None:
    job = bench.job(bench.stripes(per_class=8), epochs=2)
    went_through = memory_for(lambda _, images: not singles or images == 1, lambda images: images == 1)
    result, link = bench.train(job)
    assert result.score is not None
    assert [notice.rpartition("go through it ")[2] for notice in link.notices if "while judging" in notice][-1] == "1 at a time."
    state = newest(bench.storage, job.checkpoint_folder)
    assert state is not None and state.state["state"]["accumulation"] == (12 if singles else 1), "training goes on as it did"
    assert set(went_through) == {1 if singles else 12}
    if not singles:  # what was found out is kept
        _, again = bench.train(replace(job, generation=2, plan=job.plan.model_copy(update={"epochs": 3})))
        assert not again.notices


def test_not_even_one_image_can_be_judged(bench: Any, memory_for: Any) -> None:
    memory_for(lambda *_: True, lambda _: False)
    with pytest.raises(OutOfMemoryError, match="32 px"):
        bench.train(bench.job(bench.stripes(per_class=8)))


def free_for(job: Any, images: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have just so much free memory that a step of so many images is thought to fit it."""
    facts = DeviceFacts("cpu")
    needed = estimates.memory(job.spec, job.plan.image_size, images, facts) - estimates.FRAMEWORK_BYTES
    monkeypatch.setattr(Device, "free_bytes", lambda _: int(needed / 0.8) + 1)


def test_regions_of_many_classes_are_thought_to_need_more_memory(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    job = bench.job(bench.squares(), kind="regions", spec=REGIONS, image_size=64)
    many = replace(job, classes=tuple(map(str, range(150))))
    free_for(job, 9, monkeypatch)
    assert training.thought_to_fit(job, 8, choose_device(), 1) and not training.thought_to_fit(many, 8, choose_device(), 1)


def test_where_memory_is_short_a_batch_goes_in_parts_from_the_start(bench: Any, memory_for: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU nobody says that memory runs out: the system kills."""
    dataset = bench.stripes()
    job = bench.job(dataset, epochs=1)  # in batches of 16
    went_through = memory_for(lambda *_: True)
    free_for(job, 5, monkeypatch)
    result, link = bench.train(job)
    assert result.score is not None and set(went_through) <= {3, 4}
    assert [notice for notice in link.notices if "4 at a time" in notice and "suffice" in notice]
    auto = bench.job(dataset, task="auto", batch_size="auto", epochs=1)
    bench.train(auto)
    state = newest(bench.storage, auto.checkpoint_folder)
    assert state is not None and (state.state["state"]["batch_size"], state.state["state"]["accumulation"]) == (4, 1)


def test_a_killed_training_goes_on_in_smaller_parts(bench: Any, memory_for: Any, recording_link: Any) -> None:
    dataset = bench.stripes()
    went_through = memory_for(lambda *_: True)
    job = bench.job(dataset, epochs=2)
    paused, _ = bench.train(job, recording_link(lambda link: Ask.PAUSE if link.asked_times > 4 else Ask.GO_ON))
    assert paused.asked is Ask.PAUSE and set(went_through) == {12}
    went_through.clear()
    _, link = bench.train(replace(job, generation=2, plan=job.plan.model_copy(update={"parts": 2})))
    assert set(went_through) == {6} and "lack of memory" in link.notices[0] and "8 at a time" in link.notices[0]
    again = bench.train(replace(job, generation=3, plan=job.plan.model_copy(update={"parts": 2})))[1]
    assert not again.notices, "it goes in these parts already"


def test_not_even_one_image_fits(bench: Any, memory_for: Any) -> None:
    memory_for(lambda *_: False)
    with pytest.raises(OutOfMemoryError, match="32 px"):
        bench.train(bench.job(bench.stripes(per_class=8)))


def test_where_single_images_do_not_fit_activations_are_computed_again(bench: Any, memory_for: Any) -> None:
    job = bench.job(bench.stripes(per_class=8), epochs=1)
    memory_for(lambda network, _: any(isinstance(part, _Recomputing) for part in network.modules()))
    result, link = bench.train(job)
    assert result.score is not None
    told = " ".join(link.notices)
    assert "1 at a time" in told and "computed twice" in told and told.index("1 at a time") < told.index("computed twice")


def test_parts_of_a_batch_learn_what_the_whole_batch_learns(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = bench.stripes(per_class=16)
    # Without batch statistics a batch in parts has the same gradient as a whole one.
    monkeypatch.setattr(loop, "train_mode", lambda run: run.network.eval())
    _, whole = bench.train(bench.job(dataset, task="whole", epochs=1, optimizer="sgd"))
    monkeypatch.setattr(State, "begin_epoch", _accumulating(State.begin_epoch))
    _, parts = bench.train(bench.job(dataset, task="parts", epochs=1, optimizer="sgd"))
    assert parts.epochs[0][1]["train_loss"] == pytest.approx(whole.epochs[0][1]["train_loss"], rel=1e-4)
    assert parts.epochs[0][1]["val_loss"] == pytest.approx(whole.epochs[0][1]["val_loss"], rel=1e-4)


def _accumulating(real: Any) -> Any:
    def begin(state: Any, device: torch.device) -> None:
        real(state, device)
        state.accumulation = 4

    return begin


@pytest.mark.parametrize(
    ("options", "plan"),
    [
        ({"per_class": 3}, {"batch_size": 32}),  # tiny
        ({"per_class": 3, "classes": 1}, {}),  # one class
        ({"per_class": 3, "classes": 30}, {}),  # more classes than images in a batch
        ({"per_class": 6, "mode": "L"}, {}),
        ({"per_class": 6, "mode": "I;16"}, {}),
        ({"per_class": 6, "mode": "RGBA"}, {}),
        ({"per_class": 6, "mode": "P"}, {}),
        ({"per_class": 6, "size": (320, 20)}, {"batch_size": "auto"}),  # very wide
        ({"per_class": 4}, {"batch_size": 1}),  # batch normalisation has no statistics of one image
        ({"per_class": 8}, {"layer_decay": 0.7, "gradient_clip": 1.0, "label_smoothing": 0.1}),
    ],
    ids=["tiny", "one-class", "many-classes", "grey", "16-bit", "alpha", "palette", "wide", "single-images", "layer-decay"],
)
def test_odd_datasets_and_plans_train(bench: Any, options: dict[str, Any], plan: dict[str, Any]) -> None:
    result, link = bench.train(bench.job(bench.stripes(**options), epochs=2, **plan))
    assert result.score is not None and 0 <= result.score <= 1
    assert all(math.isfinite(values["val_loss"]) for _, values in link.epochs)


@pytest.mark.parametrize(
    "options",
    [{"images": 6}, {"classes": 1}, {"images": 12, "classes": 1000}, {"mode": "L"}, {"mode": "I;16"}, {"size": (320, 20)}],
    ids=["six images", "one label", "a thousand labels", "grey", "16 bits", "very wide"],
)
def test_odd_datasets_of_several_labels_train(bench: Any, options: dict[str, Any]) -> None:
    job = bench.job(bench.several_labels(**({"images": 24} | options)), epochs=2)
    result, link = bench.train(job)
    assert job.task_type is TaskType.MULTI_LABEL and len(job.classes) == options.get("classes", 2)
    assert result.score is not None and 0 <= result.score <= 1
    assert all(math.isfinite(values["val_loss"]) for _, values in link.epochs)


def test_a_thousand_classes_down_to_the_model_s_pictures(bench: Any) -> None:
    job = bench.job(bench.stripes(per_class=3, classes=1000, side=16), epochs=1, batch_size=64)
    result, _ = bench.train(job)
    assert len(job.classes) == 1000 and result.score is not None and result.metrics["auroc"] > 0
    write_model(job, result, "models/m", database=bench.database, storage=bench.storage, settings=bench.settings)
    assert min(Image.open(BytesIO(bench.storage.read("models/m/confusion_matrix.png"))).size) > 500
    card = bench.storage.read("models/m/model_card.json")
    assert len(json.loads(card)["per_class"]) == 1000 and len(card) < 300_000, "no card of a million counts"


def test_a_dataset_that_has_gone(bench: Any) -> None:
    job = bench.job(bench.stripes(per_class=3))
    with bench.database.write() as session:
        session.delete(session.get_one(Dataset, job.dataset_id))
    with pytest.raises(Exception) as caught:
        bench.train(job)
    assert isinstance(caught.value, TooFewImagesError) or "annotation set" in str(caught.value)


def test_progress_tells_how_far_and_how_long(bench: Any) -> None:
    _, link = bench.train(bench.job(bench.stripes(per_class=40), epochs=4))
    assert link.events[0].epoch == 1 and link.events[0].step == 1 and link.events[0].epochs == 4
    fractions = [event.fraction for event in link.events]
    assert fractions == sorted(fractions) and fractions[-1] <= 1


def test_after_two_epochs_the_time_left_is_known(bench: Any, recording_link: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of five; learning takes its time, and so does judging, another one."""
    real, link, told = training.begin_network, recording_link(), {}

    def slow(*args: Any, **named: Any) -> Any:
        network = real(*args, **named)
        network.register_forward_pre_hook(lambda module, _: time.sleep(0.4 if module.training else 0.3))
        return network

    monkeypatch.setattr(training, "begin_network", slow)
    monkeypatch.setattr(
        link, "epoch_ended", lambda number, *_, event, **__: told.setdefault(number, (time.monotonic(), event.seconds_left))
    )
    bench.train(bench.job(bench.stripes(per_class=40), epochs=5, batch_size=16, early_stop=False), link)
    at, left = told[2]
    assert left == pytest.approx(told[5][0] - at, rel=0.2)


def test_time_left_is_right_where_storage_is_slow_and_an_epoch_has_one_step(
    bench: Any, recording_link: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = checkpoint._save

    def slowly(storage: Any, key: str, value: dict[str, Any]) -> None:
        real(storage, key, value)
        time.sleep(1.0 if "/state-" in key else 0)

    monkeypatch.setattr(checkpoint, "_save", slowly)
    link, told = recording_link(), {}
    monkeypatch.setattr(
        link, "epoch_ended", lambda number, *_, event, **__: told.setdefault(number, (time.monotonic(), event.seconds_left))
    )
    bench.train(bench.job(bench.stripes(per_class=8), epochs=4, early_stop=False), link)
    at, left = told[2]
    assert left == pytest.approx(told[4][0] - at, rel=0.3)


@pytest.mark.parametrize("kind", ["classes", "regions", "instances"])
def test_a_set_that_the_cache_has_no_room_for_trains_to_the_same_numbers(bench: Any, kind: str) -> None:
    if kind == "classes":
        dataset, options = bench.stripes(per_class=8), {}
    else:
        dataset = bench.squares(images=8)
        options = {"kind": "instances", "spec": REGIONS if kind == "regions" else INSTANCES, "image_size": 64, "batch_size": 4}
    kept = bench.train(bench.job(dataset, task="kept", epochs=2, **options))[1]
    assert not [notice for notice in kept.notices if "decoded anew" in notice]
    shutil.rmtree(bench.settings.cache)
    bench.settings.cache_bytes = 2000  # what is known of the masks finds room, no image does
    anew = bench.train(bench.job(dataset, task="anew", epochs=2, **options))[1]
    assert [notice for notice in anew.notices if "decoded anew" in notice and "the same" in notice]
    assert numbers(kept) == numbers(anew)
    assert not list(bench.settings.cache.glob("pixels/*.npy"))


def test_no_step_waits_for_a_checkpoint_that_is_still_being_written(
    bench: Any, recording_link: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first write within the epoch ends only when its last step has begun; the next one is put off until then."""
    bench.settings.checkpoint_seconds = 1e-6
    last_step, in_time, states = threading.Event(), [], []
    real = CheckpointFolder._write

    def write(folder: Any, copied: Any, state: dict[str, Any], best: Any) -> None:
        states.append((state["state"]["epoch"], state["state"]["step"]))
        if len(states) == 1:
            in_time.append(last_step.wait(20))
        real(folder, copied, state, best)

    monkeypatch.setattr(CheckpointFolder, "_write", write)

    def watch(link: Any) -> Ask:
        if link.events and link.events[-1].step >= link.events[-1].steps - 1:
            last_step.set()
        return Ask.GO_ON

    monkeypatch.setattr(telling, "_PROGRESS_SECONDS", 0)
    result, _ = bench.train(bench.job(bench.stripes(), epochs=1, batch_size=4), recording_link(watch))
    assert result.score is not None and in_time == [True]
    assert states[0] == (0, 0) and states[-1] == (1, 0), "the end of the epoch is written whatever was before"


@pytest.mark.parametrize(("asked", "saved"), [(Ask.ENOUGH, 0), (Ask.STOP_KEEP, 0), (Ask.STOP_DISCARD, 0), (Ask.PAUSE, 1)])
def test_a_training_that_is_to_end_saves_its_step_for_a_pause_only(
    bench: Any, recording_link: Any, monkeypatch: pytest.MonkeyPatch, asked: Ask, saved: int
) -> None:
    """Once, though it is time for a checkpoint within the epoch, too."""
    bench.settings.checkpoint_seconds = 1e-6
    states, written, real = [], threading.Event(), CheckpointFolder._write

    def write(folder: Any, copied: Any, state: dict[str, Any], best: Any) -> None:
        states.append((state["state"]["epoch"], state["state"]["step"]))
        real(folder, copied, state, best)
        if states[-1] == (1, 0):
            written.set()

    def watch(link: Any) -> Ask:
        if (1, 0) in states and threading.current_thread() is threading.main_thread():
            assert written.wait(60)  # else the next epoch might be over before the first is told
        return asked if link.epochs else Ask.GO_ON

    monkeypatch.setattr(CheckpointFolder, "_write", write)
    result, _ = bench.train(bench.job(bench.stripes(), batch_size=4), recording_link(watch))
    assert result.asked is asked
    assert len(states[states.index((1, 0)) + 1 :]) == saved


@pytest.mark.parametrize(("copying", "ema_decay"), [("at once", 0.0), ("slowly", 0.0), ("slowly", 0.9)])
def test_checkpoints_within_an_epoch(
    bench: Any, recording_link: Any, monkeypatch: pytest.MonkeyPatch, copying: str, ema_decay: float
) -> None:
    """What is copied while the next step is in work has nothing of that step in it."""
    bench.settings.checkpoint_seconds = 1e-6
    if copying == "slowly":
        real = Copies.begin

        def begin(copies: Copies, value: Any, name: str) -> Any:
            copied, copy = real(copies, value, name)
            return copied, lambda: (time.sleep(0.05), copy())

        monkeypatch.setattr(Copies, "begin", begin)
    job = bench.job(bench.stripes(), ema_decay=ema_decay)

    class KilledError(BaseException):
        """As a kill."""

    def die(link: Any) -> Ask:
        if link.asked_times == 12:
            raise KilledError
        return Ask.GO_ON

    whole = bench.job(bench.stripes(name="again"), task="whole", ema_decay=ema_decay)
    with pytest.raises(KilledError):
        bench.train(job, recording_link(die))
    saved = newest(bench.storage, job.checkpoint_folder)
    assert saved is not None and (saved.state["state"]["step"] or saved.state["state"]["epoch"])
    bench.train(replace(job, generation=2))
    bench.train(whole)
    assert_same_weights(weights_of(bench, whole), weights_of(bench, job))
    unbroken, resumed = (newest(bench.storage, one.checkpoint_folder) for one in (whole, job))
    assert unbroken is not None and unbroken.best is not None and resumed is not None and resumed.best is not None
    assert_same_weights(unbroken.best.weights, resumed.best.weights)
