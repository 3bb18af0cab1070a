"""The steps of the wizard, in order; which of them are on the way depends on the choices so far."""

from core.wizard.steps.dataset import DatasetStep
from core.wizard.steps.hyperparameters import HyperparametersStep
from core.wizard.steps.model import ModelStep
from core.wizard.steps.purpose import FlowStep, PresetStep, SourceModelStep, TaskTypeStep
from core.wizard.steps.start import NameStep, ReviewStep
from core.wizard.steps.step import Step

STEPS: tuple[Step, ...] = (
    FlowStep(),
    TaskTypeStep(),
    PresetStep(),
    SourceModelStep(),
    DatasetStep(),
    ModelStep(),
    HyperparametersStep(),
    NameStep(),
    ReviewStep(),
)
