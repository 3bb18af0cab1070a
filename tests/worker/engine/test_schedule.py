"""Learning rates over a training, optimizers, averages and time left."""

import pytest
import timm
import torch

from core.tasks.hyperparameters import TrainingPlan
from worker.engine.average import WeightAverage
from worker.engine.pace import Pace
from worker.engine.schedule import build_optimizer, learning_rate_factor, set_learning_rate


def factors(steps: int = 10, **plan: object) -> list[float]:
    made = TrainingPlan.model_validate(plan)
    return [learning_rate_factor(made, step, steps) for step in range(made.epochs * steps)]


def test_what_the_authors_name_is_not_decayed() -> None:
    """Embeddings of positions and class tokens of timm's transformers."""
    network = timm.create_model("test_vit", num_classes=2)
    optimizer = build_optimizer(network, TrainingPlan(optimizer="adamw", weight_decay=0.05, layer_decay=0.75))
    decay = {id(weight): group["weight_decay"] for group in optimizer.param_groups for weight in group["params"]}
    assert decay[id(network.pos_embed)] == 0 and decay[id(network.blocks[0].attn.qkv.weight)] == 0.05


def test_constant() -> None:
    assert set(factors(epochs=3)) == {1.0}


def test_step_decay_by_tenths_at_each_third() -> None:
    rates = factors(epochs=3, learning_rate_schedule="step")
    assert rates[0] == rates[9] == 1 and rates[10] == rates[19] == pytest.approx(0.1) and rates[-1] == pytest.approx(0.01)


def test_cosine_falls_to_nothing() -> None:
    rates = factors(epochs=4, learning_rate_schedule="cosine")
    assert rates[0] == 1 and rates[20] == pytest.approx(0.5) and rates[-1] < 0.01 and rates == sorted(rates, reverse=True)


def test_one_cycle_goes_up_and_down() -> None:
    rates = factors(epochs=10, learning_rate_schedule="one-cycle")
    top = rates.index(max(rates))
    assert rates[0] == pytest.approx(0.04) and top == 30 and rates[top] == 1 and rates[-1] < 1e-4
    assert rates[:top] == sorted(rates[:top]) and rates[top:] == sorted(rates[top:], reverse=True)


@pytest.mark.parametrize("schedule", ["constant", "step", "cosine"])
def test_warm_up_climbs_to_the_full_rate(schedule: str) -> None:
    rates = factors(epochs=6, learning_rate_schedule=schedule, warmup_epochs=2)
    assert 0 < rates[0] < 0.1 and rates[:20] == sorted(rates[:20]) and rates[20] == pytest.approx(1)


def test_a_warm_up_longer_than_the_training_takes_half_of_it() -> None:
    assert max(factors(epochs=1, warmup_epochs=5)) == 1


def network() -> torch.nn.Sequential:
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten(), torch.nn.LazyLinear(2))


def test_adamw_spares_biases_and_sgd_is_as_typed() -> None:
    made = network()
    made(torch.zeros(2, 3, 8, 8))
    adamw = build_optimizer(made, TrainingPlan(optimizer="adamw", weight_decay=0.05))
    assert isinstance(adamw, torch.optim.AdamW)
    assert [(group["weight_decay"], {parameter.ndim > 1 for parameter in group["params"]}) for group in adamw.param_groups] == [
        (0.05, {True}),
        (0.0, {False}),
    ]
    sgd = build_optimizer(made, TrainingPlan(weight_decay=0.01, momentum=0.8))
    assert isinstance(sgd, torch.optim.SGD)
    assert [(group["weight_decay"], group["momentum"]) for group in sgd.param_groups] == [(0.01, 0.8)]
    assert sum(len(group["params"]) for group in sgd.param_groups) == len(list(made.parameters()))


def test_layers_far_from_the_head_learn_more_slowly() -> None:
    import timm

    made = timm.create_model("test_vit", num_classes=3)
    optimizer = build_optimizer(made, TrainingPlan(optimizer="adamw", layer_decay=0.5))
    set_learning_rate(optimizer, 1.0)
    rates = {id(parameter): group["lr"] for group in optimizer.param_groups for parameter in group["params"]}
    assert rates[id(made.head.weight)] == 1.0
    assert rates[id(made.patch_embed.proj.weight)] < rates[id(made.blocks[-1].mlp.fc1.weight)] < 1.0


def test_the_first_of_many_layers_learns_as_that_of_a_few_does() -> None:
    from timm.models import VisionTransformer

    scales = {}
    for depth in (12, 24):
        made = VisionTransformer(img_size=32, patch_size=16, embed_dim=8, num_heads=1, depth=depth, num_classes=2)
        optimizer = build_optimizer(made, TrainingPlan(optimizer="adamw", layer_decay=0.75))
        scales[depth] = sorted({group["lr_scale"] for group in optimizer.param_groups})
    assert len(scales[12]) == 14 and len(scales[24]) == 26
    assert scales[24][0] == pytest.approx(scales[12][0]) == pytest.approx(0.75**13)
    assert scales[24][-1] == scales[12][-1] == 1 and scales[24][-2] > scales[12][-2]


def test_a_backbone_takes_its_share_of_the_rate_and_keeps_its_weight_decay() -> None:
    made = torch.nn.ModuleDict({"backbone": torch.nn.Linear(2, 2), "head": torch.nn.Linear(2, 2)})
    optimizer = build_optimizer(made, TrainingPlan(optimizer="adamw", weight_decay=0.05, backbone_factor=0.1), made["backbone"])
    set_learning_rate(optimizer, 1.0)
    found = {id(one): (group["lr"], group["weight_decay"]) for group in optimizer.param_groups for one in group["params"]}
    assert [found[id(one)] for one in made["backbone"].parameters()] == [(0.1, 0.05), (0.1, 0.0)]
    assert [found[id(one)] for one in made["head"].parameters()] == [(1.0, 0.05), (1.0, 0.0)]


def test_the_average_follows_and_steps_aside() -> None:
    made = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(made.weight)
    average = WeightAverage(made, 0.9)
    for _ in range(200):
        torch.nn.init.ones_(made.weight)
        average.update()
    with average.in_place():
        assert 0.99 < float(made.weight.detach()) < 1.0
    assert float(made.weight.detach()) == 1.0


def test_time_left_from_steps_and_evaluations() -> None:
    pace = Pace()
    assert pace.seconds_left(images=100, evaluations=1, epoch_images=50, validation_images=10) is None
    for _ in range(3):
        pace.stepped(50.0, 10)  # cold steps do not count
    for _ in range(20):
        pace.stepped(1.0, 10)
    assert pace.images_per_second == pytest.approx(10)
    pace.evaluated(5.0)
    assert pace.seconds_left(images=100, evaluations=2, epoch_images=50, validation_images=10) == pytest.approx(20)


def test_a_host_that_has_become_slower_is_followed_within_an_epoch() -> None:
    pace = Pace()
    for seconds in [1.0] * 128 + [1.5] * 125:
        pace.stepped(seconds, 10)
    pace.evaluated(5.0)
    left = pace.seconds_left(images=1000, evaluations=1, epoch_images=1000, validation_images=10)
    assert left == pytest.approx(155, rel=0.05)


@pytest.mark.parametrize(
    ("state", "best", "left"),
    [
        (4.0, 0.0, 20 + 4),  # done before the epoch ends: only the last one is waited for
        (30.0, 0.0, 3 * 30),  # three checkpoints, one after another
        (20.0, 20.0, 3 * 30),  # half of the epochs to come are thought to be the best
    ],
)
def test_time_left_counts_what_is_waited_for_checkpoints(state: float, best: float, left: float) -> None:
    pace = Pace()
    for _ in range(4):
        pace.stepped(1.0, 10)
    pace.evaluated(5.0)
    pace.written(state, best)
    assert pace.seconds_left(images=100, evaluations=2, epoch_images=50, validation_images=10) == pytest.approx(left)


def test_time_left_by_the_first_steps_where_an_epoch_has_but_one() -> None:
    pace = Pace()
    pace.stepped(50.0, 10)
    assert pace.seconds_left(images=20, evaluations=2, epoch_images=10, validation_images=10) is None, "within the first epoch they mislead"
    pace.evaluated(5.0)
    pace.stepped(1.0, 10)
    pace.evaluated(0.5)
    assert pace.seconds_left(images=20, evaluations=2, epoch_images=10, validation_images=10) == pytest.approx(3)
    assert pace.images_per_second == pytest.approx(10)
