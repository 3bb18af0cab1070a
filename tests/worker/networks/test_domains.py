"""Weights of one domain: listed with their licence, and of grey images usable for colour."""

import pytest
import timm
import torch

from core.settings import Settings
from core.vocabulary import TaskType
from core.zoo import catalogue, weights
from worker.networks import build
from worker.networks.domains import DOMAINS


@pytest.fixture
def settings(tmp_path):
    return Settings(home=tmp_path / "home", weights_dir=tmp_path, offline=True, _env_file=None)


def test_all_are_listed_with_their_licence_and_only_free_ones_may_be_chosen(settings):
    for domain in DOMAINS:
        spec = catalogue.find_spec(domain.network, domain.pretraining, settings)
        assert spec.licence == domain.licence
        assert weights.allowed(spec, settings) == (domain.licence in {"Apache-2.0", "MIT", "BSD-3-Clause"})
        assert spec.data_types == tuple(domain.data_types.split())
    kinds = {kind for domain in DOMAINS for kind in domain.data_types.split()}
    assert {"x-ray", "fundus", "aerial", "microscopy"} <= kinds


def test_a_network_that_has_seen_grey_images_answers_the_same_in_colour(settings, tmp_path, monkeypatch):
    spec = catalogue.find_spec("densenet121", "chest-x-rays", settings)
    grey = timm.create_model("densenet121", in_chans=1, num_classes=18).eval()
    file = tmp_path / f"{spec.name}.pth"
    torch.save(grey.state_dict(), file)
    monkeypatch.setattr(weights, "check", lambda path, spec: None)  # the real file has 28 MB and another hash
    network = build(spec, TaskType.MULTI_LABEL, 3, settings=settings).eval()
    image = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        mine, theirs = network.forward_features(image.expand(-1, 3, -1, -1)), grey.forward_features(image)
    assert torch.allclose(mine, theirs, atol=1e-4)
