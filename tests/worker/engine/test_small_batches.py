"""Images that go through the network alone: what has statistics keeps them, what has none yet learns them."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from safetensors.torch import load as load_safetensors
from small_networks import CLASSIFIER, REGIONS
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from core.zoo.catalogue import find_spec
from worker.engine.training import begin_network, settled_norms
from worker.networks.mending import take_single_values
from worker.reports.model_files import write_model


@pytest.mark.parametrize("network", ["unet-test_resnet", "deeplabv3plus-test_resnet"])
def test_a_segmenter_from_scratch_learns_its_statistics_from_single_images(bench: Any, network: str) -> None:
    """DeepLab's pooled branch has one value a channel of a single image, which torch refuses."""
    job = bench.job(bench.squares(images=6), kind="regions", spec=replace(REGIONS, network=network), image_size=64, batch_size=1, epochs=1)
    result, _ = bench.train(job)
    write_model(job, result, "models/m", database=bench.database, storage=bench.storage, settings=bench.settings)
    weights = load_safetensors(bench.storage.read("models/m/model.safetensors"))
    means = [value for name, value in weights.items() if name.endswith("running_mean")]
    assert sum(bool(mean.any()) for mean in means) >= len(means) - 1


def test_what_came_with_statistics_keeps_them(bench: Any) -> None:
    """Of a segmenter its encoder, of a detector its backbone, of a model that is retrained and of a classifier all."""

    def settled(job: Any) -> tuple[set[str], set[str]]:
        network = begin_network(job, bench.storage, bench.settings, learnt=True)
        norms = {name: part for name, part in network.named_modules() if isinstance(part, _BatchNorm)}
        kept = settled_norms(network, job)
        return {name for name, norm in norms.items() if norm in kept}, norms.keys() - {name for name, norm in norms.items() if norm in kept}

    squares, stripes = bench.squares(images=6), bench.stripes(per_class=3)
    unet = bench.job(squares, kind="regions", spec=find_spec("unet-tf_efficientnet_lite0"), image_size=64)
    kept, learning = settled(unet)
    assert kept and learning and all(name.startswith("encoder.") for name in kept) and all(name.startswith("decoder.") for name in learning)
    assert settled(replace(unet, spec=find_spec("unet-tf_efficientnet_lite0", "none")))[0] == set()
    assert settled(replace(unet, parent_model_key="models/m"))[1] == set()
    kept, learning = settled(bench.job(squares, kind="boxes", spec=find_spec("faster_rcnn-tf_efficientnet_lite0"), image_size=64))
    assert kept and not learning  # its pyramid is normalised by groups
    kept, learning = settled(bench.job(stripes, spec=CLASSIFIER))
    assert kept and not learning


def test_of_one_value_a_channel_statistics_stay_and_of_more_they_are_learnt() -> None:
    norm = nn.BatchNorm2d(2)
    take_single_values(norm)
    take_single_values(norm)  # a second time changes nothing
    values = torch.tensor([[[[5.0]], [[-3.0]]]])
    assert torch.allclose(norm(values), values, atol=1e-4) and norm.training and not norm.running_mean.any()
    assert norm(torch.randn(1, 2, 4, 4) + 5).mean().abs() < 1e-5 and (norm.running_mean > 0.3).all()
    assert isinstance(norm, nn.BatchNorm2d) and list(norm.state_dict()) == list(nn.BatchNorm2d(2).state_dict())
