"""Losses and numbers of classification, against cases worked out by hand."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, f1_score
from torchmetrics.functional.classification import binary_auroc, binary_average_precision, multiclass_auroc, multilabel_average_precision

from core.datasets.records import Record
from core.tasks.hyperparameters import TrainingPlan
from worker.objectives.classification import MultiLabel, SingleLabel, best_thresholds, class_weights, of_each_class, positive_weights

CPU = torch.device("cpu")


def records(values: list[Any], key: str) -> list[Record]:
    return [Record(number, f"{number}.png", str(number), 8, 8, "", "", {key: value}) for number, value in enumerate(values)]


def test_a_source_s_test_set_has_no_part_in_the_weights_of_classes() -> None:
    """Where another set validates it is not learnt from; often it is composed otherwise than the training set."""
    sets = [("train", 0)] * 40 + [("train", 1)] * 4 + [("val", 0)] * 5 + [("val", 1)] + [("test", 1)] * 40
    validation = [row for row, (name, _) in enumerate(sets) if name == "val"]
    plan = TrainingPlan(class_balance=1.0)
    one = [Record(row, f"{row}.png", str(row), 8, 8, name, "", {"label": label}) for row, (name, label) in enumerate(sets)]
    assert torch.equal(SingleLabel(one, validation, ["a", "b"], plan, CPU)._weights, class_weights(torch.tensor([40, 4]), 1.0))
    several = [replace(record, value={"labels": [record.value["label"]]}) for record in one]
    expected = positive_weights(torch.tensor([40, 4]), torch.tensor([4, 40]), 1.0)
    assert torch.equal(MultiLabel(several, validation, ["a", "b"], plan, CPU)._weights, expected)


def test_macro_f1_is_that_which_scikit_learn_tells() -> None:
    """Of classes that images show or that are said of some: whoever says a class that no image shows is wrong in that class, too."""
    labels, said = [0] * 50 + [1] * 50, [0] * 50 + [1] * 40 + [2] * 10
    judged = evaluated(single(labels, 4), [[9.0 if number == one else 0.0 for number in range(4)] for one in said])
    assert judged.metrics["accuracy"] == pytest.approx(0.9)
    assert judged.metrics["macro_f1"] == pytest.approx(f1_score(labels, said, average="macro"))
    assert judged.metrics["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, said))


def single(labels: list[int], classes: int, **plan: Any) -> SingleLabel:
    return SingleLabel(records(labels, "label"), range(len(labels)), [f"c{number}" for number in range(classes)], TrainingPlan(**plan), CPU)


def evaluated(objective: Any, logits: list[list[float]]) -> Any:
    evaluator = objective.evaluator()
    for row, values in enumerate(logits):  # one image at a time: gathering must not matter
        evaluator.update(torch.tensor([values]), np.array([row]))
    return evaluator.compute()


def test_numbers_of_one_label() -> None:
    objective = single([0, 0, 0, 1], 2)
    judged = evaluated(objective, [[2, 0], [2, 0], [0, 2], [0, 2]])
    assert objective.baseline == 0.75
    assert judged.score == judged.metrics["accuracy"] == 0.75
    assert judged.metrics["balanced_accuracy"] == pytest.approx((2 / 3 + 1) / 2)
    assert judged.metrics["macro_f1"] == pytest.approx((0.8 + 2 / 3) / 2)
    assert judged.details["confusion"].tolist() == [[2, 1], [0, 1]]
    assert not judged.remarks


def test_classes_without_validation_images_do_not_count() -> None:
    judged = evaluated(single([0, 1], 5), [[9, 0, 0, 0, 0], [0, 9, 0, 0, 0]])
    assert judged.metrics["balanced_accuracy"] == judged.metrics["auroc"] == judged.metrics["macro_f1"] == 1


def test_curves_are_exact_however_many_classes_there_are() -> None:
    """Of 4,500 classes each is as likely as 1 in 4,500: a histogram of 200 thresholds would tell none of them apart."""
    labels = torch.arange(4500) % 3
    logits = torch.zeros(4500, 4500)
    logits[torch.arange(4500), labels] = 0.1
    evaluator = single(labels.tolist(), 4500).evaluator()
    evaluator.update(logits, np.arange(4500))
    assert evaluator.compute().metrics["auroc"] == 1


def test_curves_are_those_of_torchmetrics_for_all_classes_at_once() -> None:
    draw = torch.Generator().manual_seed(0)
    probabilities, labels = torch.rand(200, 7, generator=draw).half().float(), torch.randint(0, 7, (200,), generator=draw)
    several = torch.rand(200, 7, generator=draw) < 0.2
    counted = torch.ones(7, dtype=torch.bool)
    with torch.inference_mode():  # as trainings judge
        areas = of_each_class(binary_auroc, probabilities, lambda number: labels == number, counted)
    assert torch.allclose(areas, multiclass_auroc(probabilities, labels, 7, average="none"))
    precision = of_each_class(binary_average_precision, probabilities, lambda number: several[:, number], counted)
    assert torch.allclose(precision, multilabel_average_precision(probabilities, several.long(), 7, average="none"))


def test_a_class_never_said_is_remarked() -> None:
    judged = evaluated(single([0, 0, 1], 2), [[1, 0]] * 3)
    assert "“c1”" in judged.remarks["never-predicted"][0]


def test_what_guessing_loses() -> None:
    several = MultiLabel(records([[0], [1]], "labels"), [0, 1], ["a", "b", "c"], TrainingPlan(), torch.device("cpu"))
    for objective in (single([0, 1], 3), several):
        assert evaluated(objective, [[0.0] * 3] * 2).loss == pytest.approx(objective.chance_loss)


def test_one_class() -> None:
    judged = evaluated(single([0, 0], 1), [[0.3], [0.1]])
    assert judged.score == 1 and judged.loss == 0 and "auroc" not in judged.metrics
    assert judged.details["confusion"].tolist() == [[2]]


def test_smoothing_is_learnt_from_but_not_shown() -> None:
    network = torch.nn.Flatten()
    images = torch.tensor([[[[4.0, 0.0]]], [[[0.0, 4.0]]]])
    arguments = (network, images, (), np.array([0, 1]), np.zeros((2, 3, 3), np.float32))
    plain = single([0, 1], 2).training_step(*arguments)
    smoothed = single([0, 1], 2, label_smoothing=0.2).training_step(*arguments)
    assert plain.loss == plain.plain_loss == smoothed.plain_loss < smoothed.loss
    assert plain.correct == 1


def test_smoothing_and_weights_are_judged_besides_as_they_are_trained() -> None:
    """Too sure for smoothing, not for people: of surer outputs the shown loss is lower and the trained one higher."""
    labels = records([0, 1, 1, 0, 1, 1, 1], "label")
    objective = SingleLabel(labels, range(3), ["rare", "common"], TrainingPlan(label_smoothing=0.2, class_balance=1.0), CPU)
    modest, sure = (evaluated(objective, [[side, -side], [-side, side], [-side, side]]) for side in (1.1, 3.0))
    assert sure.loss < modest.loss and sure.trained_loss > modest.trained_loss
    doubtful = evaluated(objective, [[0.0, 0.0], [-1.1, 1.1], [-1.1, 1.1]]), evaluated(objective, [[1.1, -1.1], [0.0, 0.0], [-1.1, 1.1]])
    assert doubtful[0].loss == pytest.approx(doubtful[1].loss)
    assert doubtful[0].trained_loss > doubtful[1].trained_loss, "the rare class counts for more"
    several = MultiLabel(records([[0], [1]], "labels"), range(2), ["a", "b"], TrainingPlan(label_smoothing=0.2), CPU)
    modest, sure = (evaluated(several, [[side, -side], [-side, side]]) for side in (2.2, 5.0))
    assert sure.loss < modest.loss and sure.trained_loss > modest.trained_loss


def test_numbers_of_several_labels() -> None:
    objective = MultiLabel(records([[0, 1], [0], [], [1]], "labels"), range(4), ["a", "b", "never shown"], TrainingPlan(), CPU)
    judged = evaluated(objective, [[2, 2, -2], [2, -2, -2], [-2, -2, -2], [-2, 2, -2]])
    assert judged.score == judged.metrics["map"] == judged.metrics["micro_f1"] == judged.metrics["macro_f1"] == judged.metrics["auroc"] == 1
    assert objective.baseline == pytest.approx(0.5)
    assert judged.details["counts"][:, :2].tolist() == [[2, 0], [2, 0], [0, 0]]


def test_images_without_any_label() -> None:
    judged = evaluated(MultiLabel(records([[], []], "labels"), range(2), ["a"], TrainingPlan(), CPU), [[0.1], [0.2]])
    assert judged.score == 0 and "map" not in judged.metrics


def test_thresholds_are_the_best_cuts() -> None:
    probabilities = torch.tensor([[0.9], [0.8], [0.3], [0.1]])
    labels = torch.tensor([[True], [True], [True], [False]])
    threshold = float(best_thresholds(probabilities, labels)[0])
    assert 0.1 < threshold <= 0.3
    assert float(best_thresholds(probabilities, torch.zeros(4, 1, dtype=torch.bool))[0]) == 0.5


def test_several_labels_are_judged_by_what_will_be_said() -> None:
    """A rare class whose scores never reach one half, but are told apart without a mistake."""
    labels = [[0, 1] if row < 2 else [0] if row % 2 else [] for row in range(100)]
    objective = MultiLabel(records(labels, "labels"), range(100), ["common", "rare"], TrainingPlan(), CPU)
    logits = [[3.0 if 0 in said else -3.0, -0.4 if 1 in said else -2.0] for said in labels]
    judged = evaluated(objective, logits)
    assert judged.metrics["label_accuracy"] == judged.metrics["micro_f1"] == judged.metrics["macro_f1"] == 1
    assert not judged.remarks
    halves = MultiLabel(records(labels, "labels"), range(100), ["common", "rare"], TrainingPlan(), CPU, torch.tensor([0.5, 0.5]))
    judged = evaluated(halves, logits)
    assert judged.metrics["macro_f1"] == 0.5 and judged.metrics["label_accuracy"] == pytest.approx(0.99)
    assert judged.details["thresholds"].tolist() == [0.5, 0.5]


@pytest.mark.parametrize(("rare", "others", "lost"), [(0.0, 0.0, True), (-1.0, 1.0, True), (-4.0, -4.1, False)])
def test_a_class_that_is_not_told_apart_is_remarked(rare: float, others: float, lost: bool) -> None:
    labels = [[0, 2], [1, 2], [1, 2], [1, 2]]  # the third class is shown everywhere, the fourth nowhere: nothing can be told of them
    objective = MultiLabel(records(labels, "labels"), range(4), ["rare", "common", "all", "none"], TrainingPlan(), CPU)
    judged = evaluated(objective, [[rare if 0 in shown else others, 1.0 if 1 in shown else -1.0, 0.0, 0.0] for shown in labels])
    assert bool(judged.remarks) == lost
    if lost:
        assert "“rare”" in judged.remarks["never-predicted"][0] and "“all”" not in judged.remarks["never-predicted"][0]


def test_rare_classes_count_for_more() -> None:
    weights = class_weights(torch.tensor([90, 10, 0]), 0.5)
    assert float(weights[1] / weights[0]) == pytest.approx(3)
    assert float(90 * weights[0] + 10 * weights[1]) == pytest.approx(100)
    assert class_weights(torch.tensor([90, 10]), 1.0).tolist() == pytest.approx([100 / 180, 5])


def test_the_loss_of_an_imbalanced_set_weighs_images_by_their_class() -> None:
    labels = [0] * 9 + [1] + [0, 1]  # the last two validate
    objective = SingleLabel(records(labels, "label"), [10, 11], ["a", "b"], TrainingPlan(class_balance=1.0), CPU)
    logits = torch.tensor([[2.0, 0.0]]).repeat(2, 1)
    outcome = objective.training_step(lambda images: logits, torch.zeros(2, 3, 4, 4), (), np.array([0, 9]), np.zeros((2, 3, 3), np.float32))  # type: ignore[arg-type]
    right, wrong = np.log1p(np.exp(-2)), np.log1p(np.exp(2))
    assert float(outcome.loss) == pytest.approx((right * 10 / 18 + wrong * 5) / 2, rel=1e-5)
    assert float(outcome.plain_loss) == pytest.approx((right + wrong) / 2, rel=1e-5)  # what people see has no weights


def test_an_imbalanced_set_is_judged_by_balanced_accuracy() -> None:
    labels, logits = [0, 0, 0, 1], [[2.0, 0.0, -2.0]] * 4
    plain, balanced = single(labels, 3), single(labels, 3, class_balance=0.5)
    assert (plain.score_name, plain.baseline) == ("accuracy", 0.75)
    assert (balanced.score_name, balanced.baseline) == ("balanced_accuracy", 0.5), "the third class is not among the validation images"
    assert evaluated(plain, logits).score == 0.75 and "baseline_balanced_accuracy" not in evaluated(plain, logits).metrics
    judged = evaluated(balanced, logits)
    assert judged.score == judged.metrics["balanced_accuracy"] == judged.metrics["baseline_balanced_accuracy"] == 0.5
    assert judged.metrics["accuracy"] == judged.metrics["baseline_accuracy"] == 0.75


def test_images_that_show_a_rare_class_count_for_more_among_several_labels() -> None:
    shown = torch.tensor([10, 50, 90, 1, 0, 100])
    assert positive_weights(shown, 100 - shown, 0.5).tolist() == pytest.approx([3, 1, 1 / 3, 99**0.5, 1, 1])
    assert positive_weights(torch.tensor([1]), torch.tensor([9999]), 0.5).tolist() == [10]
    labels = [[0]] + [[]] * 9 + [[0], []]  # the last two validate
    objective = MultiLabel(records(labels, "labels"), [10, 11], ["rare"], TrainingPlan(class_balance=1.0), CPU)
    logits = torch.tensor([[1.0], [1.0]])
    outcome = objective.training_step(lambda images: logits, torch.zeros(2, 3, 4, 4), (), np.array([0, 1]), np.zeros((2, 3, 3), np.float32))  # type: ignore[arg-type]
    right, wrong = np.log1p(np.exp(-1)), np.log1p(np.exp(1))
    assert float(outcome.loss) == pytest.approx((9 * right + wrong) / 2, rel=1e-5)
    assert float(outcome.plain_loss) == pytest.approx((right + wrong) / 2, rel=1e-5)
    judged = evaluated(objective, [[0.0]] * 10 + [[-1.0], [-1.0]])
    assert judged.trained_loss > judged.loss
