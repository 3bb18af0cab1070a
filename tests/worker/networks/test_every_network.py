"""Every network of the catalogue is built with another number of classes."""

import pytest
import torch

from core.settings import Settings
from core.vocabulary import TaskType
from core.zoo import catalogue
from core.zoo.recipes import DETECTORS, REGIONS
from core.zoo.spec import ModelSpec
from worker.networks import build
from worker.networks.classification import outputs_of

CLASSES = 3
SCRATCH = [spec for spec in catalogue.entries() if spec.pretraining == catalogue.NONE]


def small_side(spec: ModelSpec) -> int:
    """The smallest side from 64 px on that the network takes."""
    return spec.input_size if spec.fixed_size else next(side for side in range(64, 2000) if spec.accepts_size(side))


@pytest.fixture
def settings(tmp_path):
    return Settings(home=tmp_path / "home", offline=True, _env_file=None)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("library", sorted({spec.library for spec in SCRATCH}))
def test_every_network_is_built_with_another_number_of_classes(settings, library):
    wrong = {}
    for spec in (spec for spec in SCRATCH if spec.library == library):
        side = small_side(spec)
        try:
            with torch.device("cpu" if spec.recipe == "detection-transformer" else "meta"):
                network = build(spec, spec.task_types[0], CLASSES, settings=settings, image_size=side).eval()
                many = sum(parameter.numel() for parameter in network.parameters())
                # The outputs alone may differ from the catalogue's, which were counted with seven classes.
                if not 0.8 <= many / spec.parameters <= 1.05:
                    wrong[spec.network] = f"{many} parameters, {spec.parameters} in the catalogue"
                if spec.recipe == "convolutional" and not any(
                    "norm" in type(part).__name__.lower() or "Std" in type(part).__name__ for part in network.modules()
                ):
                    wrong[spec.network] = "nothing is normalised in it: at the rate of its recipe it would learn nothing"
                if spec.recipe not in (*DETECTORS, "detection-transformer"):
                    wanted = (1, CLASSES, side, side) if spec.recipe in REGIONS else (1, CLASSES)
                    assert network(torch.zeros(1, 3, side, side)).shape == wanted
                if TaskType.SINGLE_LABEL in spec.task_types and not outputs_of(network, spec, CLASSES):
                    wrong[spec.network] = "nobody knows which of its layers give the logits"
        except Exception as error:  # noqa: BLE001 - all are tried, then all failures are told
            wrong[spec.network] = f"{type(error).__name__}: {error}"[:200]
    assert not wrong


def test_each_task_type_has_networks_to_count_on():
    for task_type in TaskType:
        assert len(catalogue.families(task_type)) >= 7
