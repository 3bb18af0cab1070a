"""Members of a population in the engine: slices add up to an unbroken training, and copies take weights and the optimizer's state over."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from core.errors import UnavailableError
from worker.engine import training
from worker.engine.checkpoint import newest
from worker.engine.schedule import build_optimizer
from worker.engine.state import State, pack, unpack
from worker.link import Ask, CopyOrder

SGD = {"optimizer": "sgd", "learning_rate": 0.02, "learning_rate_schedule": "constant", "momentum": 0.9, "weight_decay": 0.001}


def state_of(bench: Any, job: Any) -> dict[str, Any]:
    saved = newest(bench.storage, job.checkpoint_folder)
    assert saved is not None
    return saved.state


def assert_same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_slices_add_up_to_an_unbroken_training(bench: Any) -> None:
    dataset = bench.stripes()
    whole = bench.job(dataset, task="whole", **SGD)
    unbroken, unbroken_link = bench.train(whole)
    sliced = bench.job(dataset, task="sliced", **SGD)
    told = []
    for generation, end, asked in ((1, 1, Ask.SLICE), (2, 2, Ask.SLICE), (3, 3, Ask.GO_ON)):
        result, link = bench.train(replace(sliced, generation=generation, slice_end=end))
        assert result.asked is asked
        assert max(number for number, _ in link.epochs) == end, "the slice's epoch is stored before it is handed back"
        told += link.epochs
    assert result.score == unbroken.score and result.metrics == unbroken.metrics
    assert_same(state_of(bench, whole)["network"], state_of(bench, sliced)["network"])
    assert dict(told)[3]["train_loss"] == unbroken_link.epochs[-1][1]["train_loss"]


def test_a_slice_that_has_been_trained_already_is_only_told_of(bench: Any) -> None:
    """Its worker was lost between the checkpoint and the telling."""
    job = bench.job(bench.stripes(), **SGD)
    bench.train(replace(job, slice_end=1))
    result, link = bench.train(replace(job, generation=2, slice_end=1))
    assert result.asked is Ask.SLICE and [number for number, _ in link.epochs] == [1] and not link.events


def test_a_copy_goes_on_from_the_other_s_weights_with_its_own_epochs_and_values(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = bench.stripes()
    good = bench.job(dataset, **SGD, ema_decay=0.9)
    bench.train(replace(good, slice_end=2))
    poor = replace(good, job_number=2, job_id="task1-2")
    bench.train(replace(poor, plan=poor.plan.model_copy(update={"learning_rate": 1e-5}), slice_end=1))

    began: dict[str, Any] = {}
    changed = poor.plan.model_copy(update={"learning_rate": 0.016, "momentum": 0.8, "weight_decay": 0.0012})
    order = replace(poor, generation=2, slice_end=2, plan=changed, copy=CopyOrder(2, source=1))
    real = training.fit

    def fit(run: Any) -> Ask:
        began["network"] = {name: tensor.clone() for name, tensor in run.network.state_dict().items()}
        began["groups"] = [{key: value for key, value in group.items() if key != "params"} for group in run.optimizer.param_groups]
        began["average"] = [tensor.clone() for tensor in run.average.state()["averages"]]
        began["momenta"] = [entry["momentum_buffer"].clone() for entry in run.optimizer.state.values()]
        began["state"] = (run.state.epoch, run.state.step, run.state.copied, len(run.state.history))
        return real(run)

    monkeypatch.setattr(training, "fit", fit)
    source = state_of(bench, good)
    result, link = bench.train(order)
    assert_same(began["network"], source["network"])
    assert all(torch.equal(one, other) for one, other in zip(began["average"], source["average"]["averages"], strict=True))
    kept = [entry["momentum_buffer"] for entry in source["optimizer"]["state"].values()]
    assert kept and all(torch.equal(one, other) for one, other in zip(began["momenta"], kept, strict=True))
    assert began["groups"][0]["momentum"] == 0.8 and began["groups"][0]["weight_decay"] == 0.0012
    assert began["state"] == (1, 0, 2, 1), "its own epochs go on"
    assert result.asked is Ask.SLICE and [number for number, _ in link.epochs] == [1, 2]
    assert link.epochs[-1][1]["learning_rate"] == 0.016
    assert link.epochs[-1][1]["train_loss"] < 0.8 * link.epochs[0][1]["train_loss"]

    # The next slice does not copy again.
    bench.train(replace(order, generation=3, slice_end=3))
    assert began["state"] == (2, 0, 2, 2)


def test_a_member_that_never_finished_an_epoch_can_copy(bench: Any) -> None:
    dataset = bench.stripes()
    good = bench.job(dataset, **SGD)
    bench.train(replace(good, slice_end=1))
    diverged = replace(good, job_number=2, generation=2, slice_end=1, copy=CopyOrder(1, source=1))
    _, link = bench.train(diverged)
    assert [number for number, _ in link.epochs] == [1]
    assert state_of(bench, diverged)["state"]["copied"] == 1


def test_a_source_without_a_checkpoint_is_said(bench: Any) -> None:
    with pytest.raises(UnavailableError, match="no checkpoint"):
        bench.train(replace(bench.job(bench.stripes()), copy=CopyOrder(1, source=7)))


def test_enough_ends_a_job_with_its_best_epoch(bench: Any, recording_link: Any) -> None:
    link = recording_link(lambda link: Ask.ENOUGH if link.epochs else Ask.GO_ON)
    result, link = bench.train(bench.job(bench.stripes(), epochs=50), link)
    assert result.asked is Ask.ENOUGH
    assert result.score == max(values["score"] for _, values in link.epochs)


def test_a_resumed_optimizer_has_the_plan_s_hyperparameters(bench: Any) -> None:
    network = torch.nn.Linear(2, 2)
    plan = bench.job(bench.stripes(per_class=3), **SGD).plan
    before = build_optimizer(network, plan)
    packed = pack(State(batch_size=4), network, before, None)
    after = build_optimizer(network, plan.model_copy(update={"momentum": 0.5}))
    unpack(packed, network, after, None, torch.device("cpu"))
    assert after.param_groups[0]["momentum"] == 0.5
