"""Compiling pays or is left, never fails a training, and changes no numbers beyond rounding."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from worker.engine import compiling
from worker.engine.checkpoint import newest
from worker.engine.compiling import GRAPHS, WARM_UP_STEPS, WINDOW, Compilation, part_of_fixed_shape, pays
from worker.engine.device import Device

GPU = Device(torch.device("cuda"), "a GPU", True)
CPU = Device(torch.device("cpu"), "CPU", False)
# With other shapes than in training the parts of a batch would be compiled for themselves.
PLAN: dict[str, Any] = {"epochs": 2, "batch_size": 12, "ema_decay": 0.9, "optimizer": "sgd", "learning_rate": 0.01}


@pytest.mark.parametrize(
    ("step_seconds", "steps_left", "cost", "expected"),
    [(0.1, 10_000, 60, True), (0.1, 1_000, 60, False), (0.001, 100_000, 20, False), (1.0, 1_000, 60, True), (1.0, 0, 0, False)],
)
def test_long_trainings_pay_for_it(step_seconds: float, steps_left: int, cost: float, expected: bool) -> None:
    assert pays(step_seconds, steps_left, cost) is expected


def play(compilation: Compilation, seconds: dict[str, float], steps: int = 1_000_000) -> int:
    """Steps that take so many seconds by way, until nothing more is tried; how many of them are not like those to come."""
    odd = 0
    for _ in range(10 * (WARM_UP_STEPS + WINDOW)):
        odd += not compilation.after_step(seconds[compilation.way], steps)
    return odd


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [
        ({"": 0.1, "default": 0.08, "reduce-overhead": 0.05}, "reduce-overhead"),
        ({"": 0.1, "default": 0.08, "reduce-overhead": 0.09}, "default"),
        ({"": 0.1, "default": 0.11, "reduce-overhead": 0.12}, ""),
        ({"": 0.1, "default": 0.099, "reduce-overhead": 0.1}, ""),  # within noise: not worth its memory
    ],
)
def test_the_fastest_way_is_kept(settings: Any, seconds: dict[str, float], chosen: str) -> None:
    part = nn.Linear(2, 2)
    compilation = Compilation(part, "auto", GPU, settings, lambda _: None)
    odd = play(compilation, seconds)
    assert compilation.way == chosen and compilation.active == (part._compiled_call_impl is not None) == bool(chosen)
    assert odd == 2 * WARM_UP_STEPS, "steps that compile say nothing of the time that is left"


def on_trial_of_graphs(settings: Any, told: list[str]) -> Compilation:
    """Compiled steps are known to be faster than others, and graphs are being tried."""
    compilation = Compilation(nn.Linear(2, 2), "auto", GPU, settings, told.append)
    while compilation.way != GRAPHS:
        compilation.after_step({"": 0.1, "default": 0.08}[compilation.way], 1_000_000)
    return compilation


def test_a_trial_that_fails_costs_nothing_that_is_known_to_work(settings: Any) -> None:
    told: list[str] = []
    compilation = on_trial_of_graphs(settings, told)

    def work() -> str:
        if compilation.way == GRAPHS:
            raise RuntimeError("accessing tensor output of CUDAGraphs that has been overwritten by a subsequent run")
        return compilation.way

    undone: list[str] = []
    assert compilation.safely(work, lambda: undone.append(compilation.way)) == "default"
    assert undone == [GRAPHS] and not told and not compilation.on_trial
    assert compilation.after_step(0.08, 1_000_000), "nothing more is tried"


def test_a_trial_ends_where_memory_runs_out_and_what_is_known_to_work_stays(settings: Any) -> None:
    told: list[str] = []
    compilation = on_trial_of_graphs(settings, told)
    compilation.end_trial()
    compilation.end_trial()
    assert compilation.way == "default" and not told
    compilation.leave("no memory for compiling either")
    assert not compilation.active and told == ["no memory for compiling either"]


def test_graphs_are_not_tried_where_a_step_takes_several_passes(settings: Any) -> None:
    """A recorded graph's gradients are gone when the next pass begins."""
    compilation = Compilation(nn.Linear(2, 2), "auto", GPU, settings, lambda _: None)
    for _ in range(10 * (WARM_UP_STEPS + WINDOW)):
        compilation.after_step({"": 0.1, "default": 0.08}[compilation.way], 1_000_000, passes=2)
    assert compilation.way == "default" and not compilation.on_trial


@pytest.mark.parametrize(("device", "wish", "steps"), [(CPU, "auto", 10**9), (GPU, "never", 10**9), (GPU, "auto", 10)])
def test_where_it_cannot_pay_nothing_is_tried(settings: Any, device: Device, wish: str, steps: int) -> None:
    compilation = Compilation(nn.Sequential(*(nn.Linear(2, 2) for _ in range(50))), wish, device, settings, lambda _: None)
    assert play(compilation, {"": 0.01}, steps) == 0 and not compilation.active


def test_of_detectors_only_the_backbone() -> None:
    network = nn.Module()
    network.inner = nn.Module()
    network.inner.backbone = nn.Linear(2, 2)
    assert part_of_fixed_shape(network) is network.inner.backbone
    assert part_of_fixed_shape(network.inner.backbone) is network.inner.backbone


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))


def test_memory_that_has_run_out_is_no_fault_of_compiling(settings: Any) -> None:
    told: list[str] = []
    compilation = Compilation(nn.Linear(2, 2), "always", CPU, settings, told.append)

    def work() -> None:
        raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")

    with pytest.raises(RuntimeError, match="ALLOC_FAILED"):
        compilation.safely(work, lambda: None)
    assert compilation.active and not told


def test_where_there_is_no_compiler_the_training_goes_on_and_says_so(bench: Any) -> None:
    import torch._inductor.config as inductor

    dataset = bench.stripes()
    _, plain = bench.train(bench.job(dataset, task="plain", **PLAN))
    bench.settings.compile = "always"
    with inductor.patch({"cpp.cxx": ("no-such-compiler",)}):
        _, link = bench.train(bench.job(dataset, task="compiled", **PLAN))
    assert [notice for notice in link.notices if "could not be compiled" in notice and "goes on without" in notice]
    for (_, values), (_, expected) in zip(link.epochs, plain.epochs, strict=True):
        # The first step's statistics may have been taken in twice.
        assert values["train_loss"] == pytest.approx(expected["train_loss"], rel=1e-3)


@pytest.mark.long
@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler on the CPU")
def test_compiled_steps_learn_the_same_and_leave_the_names(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sizes of batches, averaged weights judged uncompiled, a checkpoint that an uncompiled training goes on from."""
    dataset = bench.stripes(per_class=23)  # batches of 11 and 12
    plain_job, job = bench.job(dataset, task="plain", **PLAN), bench.job(dataset, task="compiled", **PLAN)
    _, plain = bench.train(plain_job)
    used: list[str] = []
    real = compiling.Compilation.safely

    def noted(self: Compilation, *arguments: Any, **rest: Any) -> Any:
        used.append(self.way)
        return real(self, *arguments, **rest)

    monkeypatch.setattr(compiling.Compilation, "safely", noted)
    bench.settings.compile = "always"
    _, link = bench.train(job)
    assert set(used) == {"default"} and not [notice for notice in link.notices if "compiled" in notice]
    for (_, values), (_, expected) in zip(link.epochs, plain.epochs, strict=True):
        assert values["train_loss"] == pytest.approx(expected["train_loss"], rel=0.02)
        assert values["val_loss"] == pytest.approx(expected["val_loss"], rel=0.02)
    states = [newest(bench.storage, one.checkpoint_folder) for one in (plain_job, job)]
    assert states[0] is not None and states[1] is not None
    assert states[0].state["network"].keys() == states[1].state["network"].keys()
