"""Classification with one label an image, or several: softmax or sigmoid, cross-entropy, and the numbers people expect."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from torch import Tensor, nn
from torchmetrics.functional.classification import (
    binary_auroc,
    binary_average_precision,
    multiclass_confusion_matrix,
    multiclass_f1_score,
    multiclass_recall,
    multilabel_f1_score,
)

from core.datasets.records import Record
from core.datasets.splitting import trained_rows
from core.tasks.hyperparameters import TrainingPlan
from worker.engine.data import with_all_cores
from worker.engine.device import sent
from worker.engine.entries import Entries
from worker.objectives.objective import Evaluation, Objective, StepOutcome, named


def classification_objective(
    records: Sequence[Record],
    validation: Sequence[int],
    classes: Sequence[str],
    plan: TrainingPlan,
    device: torch.device,
    *,
    several: bool,
    thresholds: Tensor | None = None,
) -> Objective:
    """The objective of single-label (`several` false) or multi-label classification.

    `validation` holds the rows of the validation set, from which the baseline is taken; `thresholds` are for `MultiLabel`.
    """
    if several:
        return MultiLabel(records, validation, classes, plan, device, thresholds)
    return SingleLabel(records, validation, classes, plan, device)


# The most that an image of a rare class counts for more than another where images have several labels: beyond, a handful of images would decide.
MOST_WEIGHT = 10.0


class _Labels:
    """What labels of whole images have in common, one or several."""

    padding = "reflection"
    targets: Entries | None = None

    def shows_something(self, rows: NDArray[np.int64]) -> bool:
        """See `Objective`: that an image shows nothing is to be learnt, too."""
        return True

    def evaluation_step(self, network: nn.Module, images: Tensor, targets: Sequence[Tensor], rows: NDArray[np.int64]) -> Tensor:
        """See `Objective`: the logits."""
        logits: Tensor = network(images)
        return logits


class SingleLabel(_Labels):
    """One label an image: softmax cross-entropy, judged by accuracy; by balanced accuracy where rare classes count for more in training, too."""

    def __init__(
        self, records: Sequence[Record], validation: Sequence[int], classes: Sequence[str], plan: TrainingPlan, device: torch.device
    ) -> None:
        self.classes = tuple(classes)
        self.score_name = single_label_score(plan)
        self.chance_loss: float | None = math.log(max(1, len(classes)))
        self._smoothing = plan.label_smoothing
        self._labels = torch.tensor([int(record.value["label"]) for record in records])
        self._on_device = self._labels.to(device)
        counts = torch.bincount(self._labels[torch.as_tensor(list(validation), dtype=torch.int64)], minlength=len(classes))
        learnt = torch.bincount(self._labels[trained_rows(records, validation)], minlength=len(classes))
        self._weights = class_weights(learnt, plan.class_balance).to(device) if plan.class_balance else None
        self._baselines = {"baseline_accuracy": int(counts.max()) / max(1, int(counts.sum()))}
        if self.score_name == "balanced_accuracy":
            self._baselines["baseline_balanced_accuracy"] = 1 / max(1, int((counts > 0).sum()))
        self.baseline: float | None = self._baselines[f"baseline_{self.score_name}"]

    def training_step(
        self, network: nn.Module, images: Tensor, targets: Sequence[Tensor], rows: NDArray[np.int64], geometry: NDArray[np.float32]
    ) -> StepOutcome:
        """See `Objective`; moving an image does not change its label."""
        wanted = self._on_device[sent(rows, images.device)]
        logits = network(images).float()
        loss = self._loss(logits, wanted)
        with torch.no_grad():
            changed = self._smoothing or self._weights is not None
            plain = functional.cross_entropy(logits.detach(), wanted) if changed else loss.detach()
            correct = (logits.argmax(1) == wanted).float().mean()
        return StepOutcome(loss, plain, correct)

    def evaluator(self) -> "_SingleLabelEvaluator":
        """A fresh evaluator."""
        return _SingleLabelEvaluator(self._labels, self.classes, self.score_name, self._baselines, self._loss)

    def _loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The mean over the images, with label smoothing and class weights."""
        losses = functional.cross_entropy(logits, targets, label_smoothing=self._smoothing, reduction="none")
        return losses.mean() if self._weights is None else (losses * self._weights.to(losses.device)[targets]).mean()


def single_label_score(plan: TrainingPlan) -> str:
    """The metric by which the best epoch is chosen where an image has one label.

    Plain accuracy would choose the epoch that serves the common classes best, against what the weights of the loss are for.
    """
    return "balanced_accuracy" if plan.class_balance else "accuracy"


class _SingleLabelEvaluator:
    def __init__(
        self,
        labels: Tensor,
        classes: tuple[str, ...],
        score_name: str,
        baselines: dict[str, float],
        trained_loss: Callable[[Tensor, Tensor], Tensor],
    ) -> None:
        self._labels, self._classes, self._trained_loss = labels, classes, trained_loss
        self._score_name, self._baselines = score_name, baselines
        self._logits: list[Tensor] = []
        self._rows: list[NDArray[np.int64]] = []

    def update(self, outputs: Tensor, rows: NDArray[np.int64]) -> None:
        self._logits.append(outputs.float())
        self._rows.append(rows)

    def compute(self) -> Evaluation:
        logits = torch.cat(self._logits).cpu()
        rows = torch.from_numpy(np.concatenate(self._rows))
        labels = self._labels[rows]
        losses = functional.cross_entropy(logits, labels, reduction="none")
        probabilities = logits.softmax(1)
        confidence, said = probabilities.max(1)
        if len(self._classes) == 1:  # the metrics want two classes; the second one is never true and never said
            probabilities = functional.pad(probabilities, (0, 1))
        count = probabilities.shape[1]
        confusion = multiclass_confusion_matrix(said, labels, count)
        present = confusion.sum(1) > 0
        metrics = {
            "accuracy": float((said == labels).float().mean()),
            "balanced_accuracy": float(multiclass_recall(said, labels, count, average="none")[present].mean()),
            "macro_f1": float(multiclass_f1_score(said, labels, count, average="none")[present | (confusion.sum(0) > 0)].mean()),
            **self._baselines,
        }
        ranked = present & (confusion.sum(1) < len(labels))  # a curve needs images of the class and images of others
        if bool(ranked.any()):
            areas = of_each_class(binary_auroc, probabilities, lambda number: labels == number, ranked)
            metrics["auroc"] = float(areas[ranked].mean())
        details = {
            "rows": rows,
            "labels": labels,
            "said": said,
            "confidence": confidence,
            "losses": losses,
            "confusion": confusion[: len(self._classes), : len(self._classes)],
        }
        never = [name for index, name in enumerate(self._classes) if bool(present[index]) and int(confusion[:, index].sum()) == 0]
        return Evaluation(
            float(losses.mean()),
            metrics[self._score_name],
            metrics,
            details,
            _never_predicted(never),
            trained_loss=float(self._trained_loss(logits, labels)),
        )


class MultiLabel(_Labels):
    """Several labels an image: a sigmoid for each class, judged by mean average precision.

    `thresholds` [classes] are the probabilities from which on a finished model says its classes; without them, each judging finds its own.
    """

    score_name = "map"
    chance_loss: float | None = math.log(2)

    def __init__(
        self,
        records: Sequence[Record],
        validation: Sequence[int],
        classes: Sequence[str],
        plan: TrainingPlan,
        device: torch.device,
        thresholds: Tensor | None = None,
    ) -> None:
        self.classes = tuple(classes)
        self._thresholds = thresholds
        self._smoothing = plan.label_smoothing
        self._labels = torch.zeros(len(records), len(classes), dtype=torch.bool)
        for row, record in enumerate(records):
            self._labels[row, [int(label) for label in record.value["labels"]]] = True
        self._on_device = self._labels.to(device)
        held = self._labels[torch.as_tensor(list(validation), dtype=torch.int64)]
        learnt = self._labels[trained_rows(records, validation)]
        shown = learnt.sum(0)
        unshown = len(learnt) - shown
        self._weights = positive_weights(shown, unshown, plan.class_balance).to(device) if plan.class_balance else None
        # Whoever says of every image the share of each class has that share as average precision.
        shares = held.float().mean(0)
        self.baseline: float | None = float(shares[shares > 0].mean()) if bool((shares > 0).any()) else None

    def training_step(
        self, network: nn.Module, images: Tensor, targets: Sequence[Tensor], rows: NDArray[np.int64], geometry: NDArray[np.float32]
    ) -> StepOutcome:
        """See `Objective`; moving an image does not change its labels."""
        shown = self._on_device[sent(rows, images.device)]
        logits = network(images).float()
        wanted = shown.float()
        loss = self._loss(logits, wanted)
        with torch.no_grad():
            plain = functional.binary_cross_entropy_with_logits(logits.detach(), wanted)
            correct = ((logits > 0) == shown).float().mean()
        return StepOutcome(loss, plain, correct)

    def evaluator(self) -> "_MultiLabelEvaluator":
        """A fresh evaluator."""
        return _MultiLabelEvaluator(self._labels, self.classes, self.baseline, self._loss, self._thresholds)

    def _loss(self, logits: Tensor, wanted: Tensor) -> Tensor:
        """The mean over images and classes, with label smoothing and the weights of rare classes."""
        smoothed = wanted * (1 - self._smoothing) + self._smoothing / 2
        weights = self._weights.to(logits.device) if self._weights is not None else None
        return functional.binary_cross_entropy_with_logits(logits, smoothed, pos_weight=weights)


class _MultiLabelEvaluator:
    """What counts as said is what the model will say: what reaches the class's threshold, not one half."""

    def __init__(
        self,
        labels: Tensor,
        classes: tuple[str, ...],
        baseline: float | None,
        trained_loss: Callable[[Tensor, Tensor], Tensor],
        thresholds: Tensor | None,
    ) -> None:
        self._labels, self._classes, self._baseline, self._trained_loss = labels, classes, baseline, trained_loss
        self._thresholds = thresholds
        self._logits: list[Tensor] = []
        self._rows: list[NDArray[np.int64]] = []

    def update(self, outputs: Tensor, rows: NDArray[np.int64]) -> None:
        self._logits.append(outputs.float())
        self._rows.append(rows)

    def compute(self) -> Evaluation:
        logits = torch.cat(self._logits).cpu()
        rows = torch.from_numpy(np.concatenate(self._rows))
        labels = self._labels[rows]
        losses = functional.binary_cross_entropy_with_logits(logits, labels.float(), reduction="none").mean(1)
        probabilities = logits.sigmoid()
        thresholds = best_thresholds(probabilities, labels) if self._thresholds is None else self._thresholds
        said = probabilities >= thresholds
        # F1 wants two classes; averages below leave out classes that no image shows, that of F1 those only that are said of none, either.
        count = max(2, labels.shape[1])
        truth, decided = (functional.pad(part.long(), (0, count - labels.shape[1])) for part in (labels, said))
        present = truth.sum(0) > 0
        metrics: dict[str, Any] = {"label_accuracy": float((said == labels).float().mean())}
        score = 0.0
        never: list[str] = []
        class_ap = torch.full((labels.shape[1],), torch.nan)
        if bool(present.any()):
            precision = of_each_class(binary_average_precision, probabilities, lambda number: labels[:, number], present)
            score = metrics["map"] = float(precision[present].mean())
            f1 = multilabel_f1_score(decided, truth, count, average="none")
            metrics["micro_f1"] = float(multilabel_f1_score(decided, truth, count, average="micro"))
            metrics["macro_f1"] = float(f1[present | (decided.sum(0) > 0)].mean())
            class_ap = precision.where(present, torch.tensor(torch.nan))[: labels.shape[1]]
            never = [name for name, lost in zip(self._classes, no_better_than_chance(precision, truth).tolist(), strict=False) if lost]
        ranked = present & (truth.sum(0) < len(truth))
        if bool(ranked.any()):
            areas = of_each_class(binary_auroc, probabilities, lambda number: labels[:, number], ranked)
            metrics["auroc"] = float(areas[ranked].mean())
        if self._baseline is not None:
            metrics["baseline_map"] = self._baseline
        counts = torch.stack([(said & labels).sum(0), (said & ~labels).sum(0), (~said & labels).sum(0), (~said & ~labels).sum(0)], 1)
        details = {
            "rows": rows,
            "labels": labels,
            "said": said,
            "confidence": probabilities.half(),
            "losses": losses,
            "thresholds": thresholds,
            "class_ap": class_ap,  # NaN where no image shows the class
            "counts": counts,  # per class: true positives, false positives, false negatives, true negatives
        }
        trained_loss = float(self._trained_loss(logits, labels.float()))
        return Evaluation(float(losses.mean()), score, metrics, details, _never_told_apart(never), trained_loss=trained_loss)


def no_better_than_chance(precision: Tensor, truth: Tensor) -> Tensor:
    """Of each class whether the network cannot tell images of it from others: its average `precision` is not above its share of the images.

    That share is what equal scores for all images have. A threshold that is found on the same images always lets a class be said at least once, so
    that nothing follows from a class being said. False where none of the images, or each of them, shows the class.

    Args:
        precision: average precision of each class.
        truth: 1 where an image shows a class, [images, classes].
    """
    share = truth.float().mean(0)
    return (share > 0) & (share < 1) & (precision <= share + 1e-6)


def class_weights(images: Tensor, balance: float) -> Tensor:
    """What an image of each class weighs in the loss: as its class's number of `images` to the power of −`balance`, 1 on average of all images."""
    weights = images.clamp(min=1).double() ** -balance
    return (weights * (images.sum() / (weights * images).sum().clamp(min=1e-12))).float()


def positive_weights(shown: Tensor, unshown: Tensor, balance: float) -> Tensor:
    """What an image that shows a class weighs in the class's loss, where one that does not weighs 1: (`unshown` / `shown`) to the power of `balance`.

    At most `MOST_WEIGHT`, at least its inverse; 1 where all images show the class or none does.

    Args:
        shown: how many images show each class, [classes].
        unshown: how many do not.
        balance: 0 (no weights) to 1 (both sides weigh the same in all).
    """
    weights = (unshown.clamp(min=1) / shown.clamp(min=1)) ** balance
    return torch.where((shown > 0) & (unshown > 0), weights.clamp(1 / MOST_WEIGHT, MOST_WEIGHT), torch.tensor(1.0))


def best_thresholds(probabilities: Tensor, labels: Tensor) -> Tensor:
    """For each class the probability from which on saying yes gives the highest F1 on these images; 0.5 where the class has none.

    Args:
        probabilities: [images, classes].
        labels: the same shape, true or false.
    """
    ordered, order = probabilities.sort(0, descending=True)
    hits = labels.gather(0, order).cumsum(0).float()
    said = torch.arange(1, len(labels) + 1).view(-1, 1)
    f1 = 2 * hits / (said + labels.sum(0))
    # Equal probabilities cannot be told apart: only the last of a run is a place to cut.
    last = torch.cat([ordered[:-1] != ordered[1:], torch.ones(1, labels.shape[1], dtype=torch.bool)])
    best = f1.where(last, torch.tensor(-1.0)).argmax(0)
    following = torch.cat([ordered[1:], torch.zeros(1, labels.shape[1])]).gather(0, best.view(1, -1))[0]
    cut = (ordered.gather(0, best.view(1, -1))[0] + following) / 2
    return torch.where(labels.any(0), cut, torch.tensor(0.5))


def _never_predicted(names: Sequence[str]) -> dict[str, tuple[str, str]]:
    if not names:
        return {}
    return {
        "never-predicted": (
            f"The network never says {named(names)}, although the validation images show {'it' if len(names) == 1 else 'them'}.",
            "Add images of the class, train longer, or look whether its labels are right.",
        )
    }


def _never_told_apart(names: Sequence[str]) -> dict[str, tuple[str, str]]:
    if not names:
        return {}
    return {
        "never-predicted": (
            f"The network does not tell {named(names)} from the rest: to images that show {'it' if len(names) == 1 else 'them'} "
            "it gives no higher scores than to others.",
            "Add images of the class, train longer, or look whether its labels are right.",
        )
    }


def of_each_class(metric: Callable[..., Tensor], probabilities: Tensor, truth: Callable[[int], Tensor], counted: Tensor) -> Tensor:
    """The area under a curve for each class that is `counted`, NaN for others, [classes]; exact: of each value, not of a few thresholds.

    A class at a time for each core, which bounds the memory: torchmetrics' own averages keep the curves of all classes at once.

    Args:
        metric: of torchmetrics for two classes, such as `binary_auroc`.
        probabilities: [images, classes].
        truth: for the number of a class which images show it, [images].
        counted: [classes]; of each that is counted there are images.
    """
    numbers = torch.nonzero(counted).flatten().tolist()
    found = [math.nan] * len(counted)

    @torch.inference_mode()  # a thread does not know whether the one that has started it computes so
    def measure(index: int) -> None:
        number = numbers[index]
        found[number] = float(metric(probabilities[:, number], truth(number).long(), validate_args=False))

    with_all_cores(len(numbers), measure, lambda: False)  # torch sorts without holding the interpreter's lock
    return torch.tensor(found)
