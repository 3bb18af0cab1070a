"""Segmentation by regions: learnt by cross-entropy and soft Dice together, judged by Dice.

Where the masks of classes hardly overlap, the classes and the background exclude each other: a softmax over the classes' logits and a
background whose logit is always 0; places that two masks claim are learnt as the earlier class. Else a place may belong to several classes: a
sigmoid for each. In both a class may be said where its logit
is above 0. The loss is that of nnU-Net (Isensee et al. 2021): L = CE + 1 − mean over classes of (2 Σ p·t + ε) / (Σ p + Σ t + ε), the sums over
the batch (Milletari et al. 2016), the mean over the classes that the batch shows.

Judged at the images' own proportions, by pixels that torchmetrics counts image by image, over all validation images:
Dice = 2 TP / (2 TP + FP + FN), IoU = TP / (TP + FP + FN), as torchmetrics' DiceScore and MeanIoU have them per class.
"""

import heapq
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torchmetrics.functional.classification import multiclass_stat_scores, multilabel_stat_scores

from core.datasets.records import Record
from core.host_limits import usable_cores
from core.settings import Settings
from core.vocabulary import AnnotationKind
from worker.engine.augment import resample
from worker.engine.entries import Entries
from worker.objectives.objective import Evaluation, StepOutcome, named
from worker.objectives.region_maps import BACKGROUND, FIRST_CLASS, Maps, RegionMaps, Size, ignored_number, split_by_class

Rows = NDArray[np.int64]
_Shown = tuple[tuple[float, int], int, Tensor]  # how much it is worth showing, row, maps
Look = Callable[[int, Tensor, Tensor], None]  # is told of an image: row, counts [classes, 4], and what was said [classes, height, width]

# Predictions are compared at the images' own size; the masks of larger ones are scaled down to this many pixels on the longer side.
JUDGED_SIDE = 1024
SHOWN = 6  # best and as many worst predictions kept for the report
_EPSILON = 1.0  # pixels: keeps the Dice of tiny masks from jumping


@dataclass(frozen=True)
class RegionOutputs:
    """What the network makes of a batch: the loss, and the logits, [n, classes, side, side]."""

    loss: Tensor
    logits: Tensor


class RegionMasks:
    """The objective, to be trained once `keep_masks` was called. `score` is the mean Dice over the classes that the validation images show."""

    score_name = "dice"
    padding = "reflection"  # places beyond the edge are shown mirrored, as nothing else looks natural, and not learnt from
    baseline: float | None = None  # whoever marks nothing has a Dice of 0

    def __init__(
        self,
        records: Sequence[Record],
        kind: AnnotationKind,
        classes: Sequence[str],
        settings: Settings,
        cancelled: Callable[[], bool] = lambda: False,
        *,
        validation: Sequence[int] = (),
        exclusive: bool | None = None,
    ) -> None:
        """Raises what `RegionMaps` raises.

        The rows `validation` are judged again and again: what is true of them is kept. `exclusive` says whether classes exclude each other, as
        when a finished model was trained; where it is None, the masks decide.
        """
        self.classes = tuple(classes)
        self._records = records
        self._maps = RegionMaps(records, kind, len(classes), settings, cancelled)
        self._kept_sizes = {row: self._judged_size(row) for row in validation}
        self._kept = self._maps.at_sizes(self._kept_sizes)
        self._cores = ThreadPoolExecutor(usable_cores(), thread_name_prefix="draw")
        self.exclusive = self._maps.exclusive if exclusive is None else exclusive
        self.targets: Entries | None = None
        # All that there is to choose among is as likely, and overlaps nothing.
        self.chance_loss: float | None = math.log(len(classes) + 1 if self.exclusive else 2) + 1

    def keep_masks(self, size: int) -> None:
        """Have the masks at a network's input of `size` px travel with the images, which training needs. Raises what `RegionMaps` raises."""
        self.targets = self._maps.at(size)

    def shares(self, rows: Rows) -> Tensor:
        """Of each class the share of the pixels of the images `rows` that it covers, [classes]."""
        return self._maps.shares(rows)

    def shows_something(self, rows: NDArray[np.int64]) -> bool:
        """See `Objective`: that an image shows nothing is to be learnt, too."""
        return True

    def training_step(
        self, network: nn.Module, images: Tensor, targets: Sequence[Tensor], rows: Rows, geometry: NDArray[np.float32]
    ) -> StepOutcome:
        """See `Objective`; the masks move as the images do, and places from beyond an image's edge do not count, nor ignored ones."""
        moved = resample((_side_by_side(targets) + 1).float(), geometry, padding="zeros", mode="nearest")
        wanted = split_by_class(moved - 1, len(self.classes))
        judged = (moved[:, :1] > 0) & (moved[:, :1] - 1 != ignored_number(len(self.classes)))
        loss = region_loss(network(images).float(), wanted, judged, exclusive=self.exclusive)
        return StepOutcome(loss, loss.detach())

    def evaluation_step(self, network: nn.Module, images: Tensor, targets: Sequence[Tensor], rows: Rows) -> RegionOutputs:
        """See `Objective`."""
        logits, maps = network(images).float(), _side_by_side(targets)
        wanted, judged = split_by_class(maps, len(self.classes)), maps[:, :1] != ignored_number(len(self.classes))
        return RegionOutputs(region_loss(logits, wanted, judged, exclusive=self.exclusive), logits)

    def evaluator(self, look: Look | None = None) -> "RegionEvaluator":
        """A fresh evaluator. `look` is told of each image as it is judged, at the size at which it is."""
        return RegionEvaluator(self, look)

    def truth(self, row: int) -> Maps:
        """What is true of the image `row` at the size at which it is judged, [maps, height, width]: see `RegionMaps`."""
        return self._kept(row) if row in self._kept_sizes else self._maps.drawn(row, self._judged_size(row))

    def truths(self, rows: Rows) -> list[Maps]:
        """The same of several images, by all cores."""
        return list(self._cores.map(self.truth, rows.tolist()))

    def _judged_size(self, row: int) -> Size:
        return judged_size(self._records[row].width, self._records[row].height)


def _side_by_side(targets: Sequence[Tensor]) -> Tensor:
    """The maps of some images, each [maps, height, width], as [images, most maps, height, width]; those of images with fewer end with empty ones."""
    return pad_sequence(list(targets), batch_first=True, padding_value=BACKGROUND).to(torch.int16)


def judged_size(width: int, height: int) -> Size:
    """The size at which an image of `width` × `height` px is judged: its own, at most `JUDGED_SIDE` on the longer side."""
    scale = min(1.0, JUDGED_SIDE / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def region_loss(logits: Tensor, wanted: Tensor, judged: Tensor | None = None, *, exclusive: bool = False) -> Tensor:
    """Cross-entropy plus soft Dice loss.

    Args:
        logits: [n, classes, height, width].
        wanted: what is true, the same shape, false or true.
        judged: the places that count, [n, 1, height, width]; all where it is None.
        exclusive: whether a place belongs to one class at most: softmax with a background instead of a sigmoid for each class.
    """
    counts = torch.ones_like(wanted[:, :1]) if judged is None else judged
    # One softmax for both losses, and truth as bits: of many classes each tensor that is kept for the backward pass is large.
    if exclusive:
        logarithms = functional.pad(logits, (0, 0, 0, 0, 1, 0)).log_softmax(1)  # the background's logit is 0
        number = torch.where(wanted.any(1), wanted.to(torch.uint8).argmax(1) + 1, 0)
        entropy = functional.nll_loss(logarithms, number, reduction="none")[:, None]
        said = logarithms[:, 1:].exp()
    else:
        entropy = functional.binary_cross_entropy_with_logits(logits, wanted.to(logits.dtype), reduction="none").mean(1, keepdim=True)
        said = logits.sigmoid()
    shows = wanted & counts
    true = shows.sum((0, 2, 3)).to(logits.dtype)
    hit, whole = (torch.where(where, said, 0.0).sum((0, 2, 3)) for where in (shows, counts))
    dice = (2 * hit + _EPSILON) / (whole + true + _EPSILON)
    shown = (true > 0).to(logits.dtype)  # the Dice of a class that the batch does not show says nothing of how well it is known
    cross_entropy = torch.where(counts, entropy, 0.0).sum() / counts.sum().clamp(min=1)
    return cross_entropy + ((1 - dice) * shown).sum() / shown.sum().clamp(min=1)


def probabilities_of(logits: Tensor, *, exclusive: bool) -> Tensor:
    """Of each class at each place, [n, classes, height, width]; where classes exclude each other what is left to 1 is the background's."""
    if not exclusive:
        return logits.sigmoid()
    return functional.pad(logits, (0, 0, 0, 0, 1, 0)).softmax(1)[:, 1:]


def said_of(logits: Tensor, *, exclusive: bool) -> Tensor:
    """Where each class is said, false or true: at logits above 0, and where classes exclude each other only of the likeliest; [n, classes, …]."""
    said = logits > 0
    return said & (logits >= logits.amax(1, keepdim=True)) if exclusive else said


class RegionEvaluator:
    """Counts pixels class by class, and keeps the predictions worth showing. Of every other image two numbers are left."""

    def __init__(self, objective: RegionMasks, look: Look | None = None) -> None:
        self._objective, self._look = objective, look
        self._losses: list[Tensor] = []
        self._weights: list[int] = []
        self._total = torch.zeros(len(objective.classes), 4, dtype=torch.int64)
        self._dice: list[float] = []  # per image
        self._rows: list[Rows] = []
        self._best: list[_Shown] = []  # heaps; the least worth keeping first
        self._worst: list[_Shown] = []

    def update(self, outputs: RegionOutputs, rows: Rows) -> None:
        """Take in what `RegionMasks.evaluation_step` gave for the images `rows`."""
        self._losses.append(outputs.loss.detach())
        self._weights.append(len(rows))
        self._rows.append(rows)
        for logits, truth, row in zip(outputs.logits.float(), self._objective.truths(rows), rows.tolist(), strict=True):
            counts = self._judge(logits, truth, row)
            self._total += counts
            self._dice.append(float(image_dice(counts)))
            self._keep(self._dice[-1], counts.sum(0).tolist(), row, logits)

    def _judge(self, logits: Tensor, truth: Maps, row: int) -> Tensor:
        """True and false positives, false and true negatives of each class on one image at its own proportions, [classes, 4].

        Ignored pixels count as nothing; to whoever looks what is said of them is not said.
        """
        scaled = functional.interpolate(logits[None], truth.shape[1:], mode="bilinear", align_corners=False)
        said = said_of(scaled, exclusive=self._objective.exclusive)[0]
        counts = pixel_counts(said, truth, exclusive=self._objective.exclusive)
        if self._look is not None:
            self._look(row, counts, said & torch.from_numpy(truth[0] != ignored_number(len(said))).to(said.device))
        return counts

    def _keep(self, dice: float, totals: list[int], row: int, logits: Tensor) -> None:
        true, wrong = totals[0] + totals[2], totals[1] + totals[2]
        # Among equals the fullest images; one that shows nothing is no feat.
        for heap, rank, worth in ((self._best, (dice, true), true > 0), (self._worst, (-dice, wrong), wrong > 0)):
            if worth and (len(heap) < SHOWN or rank > heap[0][0]):
                item = (rank, row, packed_maps(said_of(logits[None], exclusive=self._objective.exclusive)[0]))
                heapq.heappush(heap, item) if len(heap) < SHOWN else heapq.heapreplace(heap, item)

    def compute(self) -> Evaluation:
        """Judge all that was taken in."""
        total = self._total
        metrics, remarks = region_metrics(total), {}
        never = [name for index, name in enumerate(self._objective.classes) if _is_missed(total[index])]
        if never:
            remarks["never-predicted"] = (
                f"The network never marks {named(never)}, although the validation images show {'it' if len(never) == 1 else 'them'}.",
                "Add images of the class, train longer, or look whether its masks are right.",
            )
        weights = torch.tensor(self._weights, dtype=torch.float32)
        loss = float((torch.stack([loss.cpu() for loss in self._losses]) * weights).sum() / weights.sum())
        best = sorted(self._best, key=lambda item: item[0], reverse=True)
        seen = {row for _, row, _ in best}
        worst = sorted((item for item in self._worst if item[1] not in seen), key=lambda item: item[0], reverse=True)
        shown = [*best, *worst]
        details = {
            "rows": torch.from_numpy(np.concatenate(self._rows)),
            "counts": total,
            "image_dice": torch.tensor(self._dice),
            "exclusive": torch.tensor(self._objective.exclusive),
            "shown_rows": torch.tensor([row for _, row, _ in shown], dtype=torch.int64),
            "shown_maps": _stacked([maps for _, _, maps in shown]),  # as `packed_maps` gives them, at the network's resolution
            "shown_best": torch.tensor(len(best)),  # so many of them, the rest are the worst
        }
        return Evaluation(loss, metrics["dice"], metrics, details, remarks)


def packed_maps(said: Tensor) -> Tensor:
    """From what was said of an image, [classes, height, width] of false and true, to maps of `FIRST_CLASS` + class index, on the host.

    [maps, height, width]: one where no two classes share a place, else so many as `split_by_class` needs to tell all of them.
    """
    kind = torch.uint8 if len(said) < 255 else torch.int16
    maps: list[Tensor] = []
    for number in torch.nonzero(said.flatten(1).any(1)).flatten().tolist():
        free = next((map_ for map_ in maps if not bool((said[number] & (map_ > 0)).any())), None)
        if free is None:
            free = torch.zeros(said.shape[1:], dtype=kind, device=said.device)
            maps.append(free)
        free[said[number]] = number + FIRST_CLASS
    return torch.stack(maps).cpu() if maps else torch.zeros(1, *said.shape[1:], dtype=kind)


def pixel_counts(said: Tensor, truth: Maps, *, exclusive: bool) -> Tensor:
    """True and false positives, false and true negatives of each class on one image, ignored places left out, [classes, 4], on the host.

    Args:
        said: [classes, height, width] of false and true.
        truth: [maps, height, width] of class numbers as in `RegionMaps`; no class is on two maps.
        exclusive: whether one class at most is said of each place.
    """
    classes, device = len(said), said.device
    maps = torch.tensor(truth).to(device).long()  # as bytes, on their way
    if exclusive and len(maps) == 1:
        number = torch.where(said.any(0), FIRST_CLASS + said.to(torch.uint8).argmax(0), BACKGROUND)
        scores = multiclass_stat_scores(
            number[None], maps, FIRST_CLASS + classes, average=None, ignore_index=ignored_number(classes), validate_args=False
        )[FIRST_CLASS:]
    else:
        counted = (maps[0] != ignored_number(classes)).flatten()
        wanted = split_by_class(maps[None], classes)[0].flatten(1)[:, counted]
        said = said.flatten(1)[:, counted]
        scores = torch.zeros(classes, 5, dtype=torch.int64, device=device)
        scores[:, 2] = int(counted.sum())
        met = (said.any(1) | wanted.any(1)).nonzero().flatten()  # nothing is to be counted of the others, which are most of many
        if len(met):
            scores[met] = multilabel_stat_scores(said[met][None], wanted[met][None], len(met), average=None, validate_args=False).view(
                -1, 5
            )
    return scores[:, [0, 1, 3, 2]].cpu()


def _stacked(maps: Sequence[Tensor]) -> Tensor:
    """Maps of some images as one tensor, those with fewer filled up with empty ones."""
    if not maps:
        return torch.zeros(0, 1, 1, 1, dtype=torch.uint8)
    most = max(len(one) for one in maps)
    return torch.stack([functional.pad(one, (0, 0, 0, 0, 0, most - len(one))) for one in maps])


def dice_and_iou(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Dice and IoU from counts [..., 4] of true and false positives, false and true negatives; NaN where there is nothing to find and nothing found."""
    true, false, missed = counts[..., 0].double(), counts[..., 1].double(), counts[..., 2].double()
    return 2 * true / (2 * true + false + missed), true / (true + false + missed)


def image_dice(counts: Tensor) -> Tensor:
    """How well each image was done, […] from [… , classes, 4]: the mean Dice over the classes that it shows or is said to show; 1 where there are none."""
    dice, _ = dice_and_iou(counts)
    return dice.nanmean(-1).nan_to_num(1.0).float()


def region_metrics(counts: Tensor) -> dict[str, Any]:
    """Means over the classes that the images show, from counts [classes, 4]; where they show none, over those that were said.

    Nothing to find and nothing found counts as 1.
    """
    dice, iou = dice_and_iou(counts)
    true, false, missed = counts[:, 0].double(), counts[:, 1].double(), counts[:, 2].double()
    shown = true + missed > 0
    counted = shown if bool(shown.any()) else true + false > 0
    if not bool(counted.any()):
        return {"dice": 1.0, "iou": 1.0}
    values = {"dice": dice, "iou": iou, "recall": true / (true + missed), "precision": true / (true + false)}
    return {name: float(value[counted].nan_to_num(0.0).mean()) for name, value in values.items()}


def _is_missed(counts: Tensor) -> bool:
    """Whether the images show the class and the network has marked it nowhere."""
    return bool(counts[0] + counts[2] > 0) and bool(counts[0] + counts[1] == 0)
