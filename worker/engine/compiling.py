"""torch.compile and CUDA graphs where they pay after their own cost: tried in a training that is long enough, kept where steps get faster.

Nothing is guessed that can be measured: some steps run as they are, some with each way of compiling, and the fastest stays. A training is
never at risk: where compiling fails, it goes on without, and says why. Weights keep their names, as the module itself is compiled in place.
Evaluation runs uncompiled: it is a small part of the time, and would be compiled again for itself.
"""

import logging
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import nn

from core.settings import Settings
from worker.engine.device import Device
from worker.engine.errors import is_out_of_memory

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

WARM_UP_STEPS = 6  # of each way: compiling itself (for two sizes of batches), autotuning, recording of graphs
WINDOW = (
    32  # steps that are measured; a multiple of those between two looks at a GPU's loss, so that its work is counted and not its orders
)
# Orders of magnitude, to tell a training of seconds from one of an hour: what compiling takes for each layer with weights, forward and
# backward, on one core (CPU: C++ compiled by the host's compiler; CUDA: Triton), and what it usually saves of a step.
SECONDS_PER_LAYER = {"cuda": 0.5, "cpu": 2.5}
USUAL_SAVING = 0.15
WORTH_KEEPING = 0.97  # of the time of a step without; nearer than that is noise
# CUDA graphs save the host's time for launching kernels: much for small networks, nothing for large ones, and they take memory.
GRAPHS = "reduce-overhead"
WAYS = {"cuda": ("default", GRAPHS), "cpu": ("default",)}
_NO_WAY = ""


def part_of_fixed_shape(network: nn.Module) -> nn.Module:
    """What of a network computes the same operations on every batch: all of it, but of detectors only the backbone."""
    for name in ("inner.backbone", "inner.model.backbone"):
        try:
            return network.get_submodule(name)
        except AttributeError:
            continue
    return network


def pays(step_seconds: float, steps_left: int, cost_seconds: float) -> bool:
    """Whether what compiling usually saves of the steps that are left is more than its cost."""
    return USUAL_SAVING * step_seconds * steps_left > cost_seconds


@dataclass
class Compilation:
    """How the steps of one training are compiled, and what was found out about it.

    `wish` is the setting: auto, always (for those who know that it pays, and for tests) or never. In auto nothing is compiled on a CPU:
    there the same seed is to give the same numbers, which a choice by the clock would not.
    """

    part: nn.Module
    wish: str
    device: Device
    settings: Settings
    tell: Callable[[str], None]
    sizes: int = 1  # of batches; each is compiled for itself
    way: str = _NO_WAY
    seconds: dict[str, float] = field(default_factory=dict)  # of a step, by the ways that were measured
    _waiting: list[str] = field(default_factory=list)
    _steps: int = 0
    _window: float = 0.0

    def __post_init__(self) -> None:
        ways = WAYS.get(self.device.torch.type, ())
        if self.wish == "never" or (self.wish == "auto" and self.device.is_cpu):
            ways = ()
        self._waiting = list(ways)
        if self.wish == "always" and self._waiting:
            self._use(self._waiting.pop(0))

    @property
    def active(self) -> bool:
        """Whether steps are compiled now."""
        return self.way != _NO_WAY

    @property
    def cost_seconds(self) -> float:
        """What one way of compiling is thought to take."""
        layers = sum(1 for module in self.part.modules() if next(module.parameters(recurse=False), None) is not None)
        return layers * self.sizes * SECONDS_PER_LAYER.get(self.device.torch.type, 0.0)

    @property
    def on_trial(self) -> bool:
        """Whether steps are compiled in a way that is not known to pay, where another is known that works."""
        return self.active and self.way not in self.seconds and bool(self.seconds)

    def after_step(self, seconds: float, steps_left: int, *, passes: int = 1) -> bool:
        """Take in how long a step of so many `passes` took, and go on to the next way when enough are measured.

        Returns whether the step was like those to come.
        """
        if not self._waiting and self.way in self.seconds:
            return True
        self._steps += 1
        if self._steps > WARM_UP_STEPS:
            self._window += seconds
        usual = self._steps > WARM_UP_STEPS or not self.active
        if self._steps == WARM_UP_STEPS + WINDOW:
            self.seconds[self.way] = self._window / WINDOW
            self._next(steps_left, passes)
        return usual

    def _next(self, steps_left: int, passes: int) -> None:
        now = min(self.seconds.values())
        if passes > 1 and GRAPHS in self._waiting:
            self._waiting.remove(GRAPHS)  # a graph's gradients are gone when the next pass begins
        if self._waiting and (self.wish == "always" or pays(now, steps_left, self.cost_seconds)):
            self._use(self._waiting.pop(0))
            return
        self._settle()

    def _settle(self) -> None:
        """Go on with the fastest way that was measured."""
        self._waiting = []
        best = min(self.seconds, key=lambda way: self.seconds[way])
        if best != _NO_WAY and _NO_WAY in self.seconds and self.seconds[best] > WORTH_KEEPING * self.seconds[_NO_WAY]:
            best = _NO_WAY
        if len(self.seconds) > 1:
            found = ", ".join(f"{way or 'uncompiled'} {1000 * seconds:.1f} ms" for way, seconds in self.seconds.items())
            logger.info("a step takes %s: %s", found, f"compiled ({best})" if best else "not compiled")
        if best != self.way:
            self._use(best)

    def _use(self, way: str) -> None:
        if self.active:
            self.part._compiled_call_impl = None
            torch.compiler.reset()  # gives the memory of recorded graphs back
        self.way, self._steps, self._window = way, 0, 0.0
        if way != _NO_WAY:
            # Shared by all jobs of the host: the same network at the same size is compiled once.
            os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(self.settings.cache / "compiled"))
            self.part.compile(dynamic=False, **({} if way == "default" else {"mode": way}))

    def safely(self, work: Callable[[], Result], undo: Callable[[], Any]) -> Result:
        """Do `work`; where compiling it fails, `undo` what was done and do it uncompiled.

        Raises:
            whatever `work` raises uncompiled, and whatever says that memory has run out: the caller knows what to do then.
        """
        if not self.active:
            return work()
        try:
            return work()
        except Exception as error:  # whatever else it is: uncompiled it will be seen whether it comes from compiling
            if is_out_of_memory(error):
                raise
            logger.warning("compiled steps fail", exc_info=True)
            reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        undo()
        tried = self.on_trial
        self.end_trial()
        if not (tried and self.active):  # else another way of compiling is known to work, and goes on
            self.leave(f"The network could not be compiled ({reason[:200]}). The training goes on without; it only takes longer.")
        return self.safely(work, undo)

    def end_trial(self) -> None:
        """Where a way of compiling is on trial, do without it: go on with the fastest of those that were measured."""
        if self.on_trial:
            self._settle()

    def leave(self, message: str) -> None:
        """Compile nothing any more, and tell why."""
        self._waiting = []
        if self.active:
            self._use(_NO_WAY)
        self.seconds.setdefault(_NO_WAY, 0.0)
        self.tell(message)

    def aside(self) -> AbstractContextManager[Any]:
        """A block that runs uncompiled."""
        return torch.compiler.set_stance("force_eager") if self.active else nullcontext()
