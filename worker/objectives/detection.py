"""Detection of objects, as boxes or as instances with masks: the network's own losses, judged by COCO's average precision."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from timm.layers.drop import DropPath
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from core.datasets.records import Record
from core.settings import Settings
from worker.engine.entries import Entries
from worker.objectives.average_precision import MOST_FOUND, Found, Judged, judge
from worker.objectives.objective import Evaluation, StepOutcome, named
from worker.objectives.objects import Objects
from worker.objectives.outlines import outlines_of
from worker.objectives.places import BoxTargets, MaskTargets, Targets
from worker.objectives.scaled_masks import packed_masks

_RANDOM_OR_COUNTING = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd, DropPath, StochasticDepth)


@dataclass(frozen=True)
class Outputs:
    """What the network makes of a batch: the loss, and for each image what it found, in pixels of its square input of `side`."""

    loss: Tensor
    found: Targets
    side: int


class Detection:
    """Boxes, or masks of single objects where `instances`, to be trained once `keep_masks` was called; networks speak the language of
    `worker.networks.detection`.

    The score is COCO's own, average precision over overlaps from 0.5 to 0.95: of two networks that find the same objects, the one that
    places them better is the better one.
    """

    score_name = "ap"
    baseline: float | None = None  # nothing that could always be said hits a place
    chance_loss: float | None = None  # each network has losses of its own
    padding = "zeros"  # a mirrored edge would show objects that nobody has marked

    def __init__(self, records: Sequence[Record], classes: Sequence[str], device: torch.device, *, instances: bool) -> None:
        self.classes = tuple(classes)
        self.instances = instances
        self.objects = Objects.of_instances(records) if instances else Objects.of_boxes(records)
        self._boxes = BoxTargets(self.objects, device)
        self._masks = MaskTargets(self.objects, device)
        self.targets: Entries | None = None

    def keep_masks(self, side: int, settings: Settings, cancelled: Callable[[], bool] = lambda: False) -> None:
        """Have the masks of instances at a network's input of `side` px travel with the images: from the cache, or, where that has no room, scaled
        for each batch anew.

        Raises:
            PreparationCancelledError: when `cancelled()` says so while they are worked out.
        """
        self.targets = packed_masks(self.objects, side, settings, cancelled)

    def _wanted(self, images: Tensor, targets: Sequence[Tensor], rows: NDArray[np.int64], geometry: NDArray[np.float32]) -> Targets:
        if self.instances:
            return self._masks.of(rows, geometry, targets, images.shape[-1])
        return self._boxes.of(rows, geometry, images.shape[-1])

    def shows_something(self, rows: NDArray[np.int64]) -> bool:
        """See `Objective`."""
        return bool((np.diff(self.objects.first)[rows] > 0).any())

    def training_step(
        self, network: nn.Module, images: Tensor, targets: Sequence[Tensor], rows: NDArray[np.int64], geometry: NDArray[np.float32]
    ) -> StepOutcome:
        """See `Objective`: the sum of the network's losses."""
        loss = _total(network(images, self._wanted(images, targets, rows, geometry)))
        return StepOutcome(loss, loss.detach())

    def evaluation_step(self, network: nn.Module, images: Tensor, targets: Sequence[Tensor], rows: NDArray[np.int64]) -> Outputs:
        """See `Objective`."""
        still = np.tile(np.eye(3, dtype=np.float32), (len(rows), 1, 1))
        wanted = self._wanted(images, targets, rows, still)
        network.train()  # only so do detectors tell their losses; what counts or draws at random stays as in evaluation
        for module in network.modules():
            if isinstance(module, _RANDOM_OR_COUNTING):
                module.eval()
        torch.manual_seed(int(rows[0]))  # some detectors draw the places at which they take their loss: the same ones each time
        loss = _total(network(images, wanted))
        network.eval()
        return Outputs(loss, network(images), images.shape[-1])

    def evaluator(self) -> "DetectionEvaluator":
        """A fresh evaluator."""
        return DetectionEvaluator(self.objects, self.classes, instances=self.instances)


def _total(losses: dict[str, Tensor]) -> Tensor:
    return torch.stack([loss.float() for loss in losses.values()]).sum()


class DetectionEvaluator:
    """Gathers what was found, and takes it to the pixels of the original images, where COCO's numbers are told."""

    def __init__(self, objects: Objects, classes: tuple[str, ...], *, instances: bool) -> None:
        self._objects, self._classes, self._instances = objects, classes, instances
        self._rows: list[NDArray[np.int64]] = []
        self._losses: list[Tensor] = []
        self._boxes: list[Tensor] = []  # one tensor per image in each of these three
        self._labels: list[Tensor] = []
        self._scores: list[Tensor] = []
        self._outlines: list[str] = []
        self.recalls: dict[str, float] = {}  # once computed: average recall, as `average_precision.Judged` tells it

    def update(self, outputs: Outputs, rows: NDArray[np.int64]) -> None:
        """Take in what `Detection.evaluation_step` gave for the images `rows`."""
        self._rows.append(rows)
        self._losses.append(outputs.loss * len(rows))
        # Where the loss is no number the answers are none, either, which COCO's metrics refuse; the loss says so.
        most = MOST_FOUND if bool(torch.isfinite(outputs.loss)) else 0
        for row, one in zip(rows.tolist(), outputs.found, strict=True):
            width, height = (int(side) for side in self._objects.sizes[row])
            boxes, labels, scores = (one[name][:most] for name in ("boxes", "labels", "scores"))
            self._boxes.append(in_original(boxes.float(), outputs.side, width, height))
            self._labels.append(labels)
            self._scores.append(scores.float())
            if self._instances:
                self._outlines += outlines_of(one["masks"][:most], width, height)

    def compute(self) -> Evaluation:
        """Judge all that was taken in.

        Its details are `rows`; of what was found, one object after another, `found_image` (a place in `rows`), `found_boxes` (x1, y1, x2,
        y2 in pixels of the original), `found_labels`, `found_scores`, `found_true` (whether it matches a true object at an overlap of 0.5) and `found_match` (which, −1 for none, `IGNORED` on what is ignored),
        and for instances `found_outlines`, the bytes of all run-length encodings, with `found_outline_ends`; of the classes `class_ap`,
        `class_ap50` and `thresholds`; `precision` [2, 101] and `overlaps` [10] as in `average_precision.Judged`.
        """
        rows = np.concatenate(self._rows)
        found = Found(
            np.repeat(np.arange(len(rows)), [len(scores) for scores in self._scores]),
            torch.cat(self._boxes).cpu().numpy(),
            torch.cat(self._labels).cpu().numpy(),
            torch.cat(self._scores).cpu().numpy(),
            tuple(self._outlines),
        )
        judged = judge(self._objects, rows, found, len(self._classes), by_masks=self._instances)
        self.recalls = judged.recalls
        # Of up to 100 objects an image average recall is among the metrics already, as `ar`.
        metrics = judged.metrics | {name: value for name, value in judged.recalls.items() if name != "ar_100"}
        if self._instances and metrics:
            boxes = judge(self._objects, rows, found, len(self._classes), by_masks=False).metrics
            metrics |= {"box_ap": boxes["ap"], "box_ap50": boxes["ap50"]}
        loss = float(torch.stack(self._losses).sum()) / len(rows)
        never = [name for name, precision in zip(self._classes, judged.class_ap50.tolist(), strict=True) if precision == 0]
        return Evaluation(
            loss,
            metrics.get("ap", 0.0),
            metrics,
            _details(rows, found, judged),
            _never_found(never, "masks" if self._instances else "boxes"),
        )


def _details(rows: NDArray[np.int64], found: Found, judged: Judged) -> dict[str, Tensor]:
    details = {
        "rows": rows,
        "found_image": found.image.astype(np.int32),
        "found_boxes": found.boxes,
        "found_labels": found.labels.astype(np.int32),
        "found_scores": found.scores,
        "found_true": judged.matches >= 0,
        "found_match": judged.matches.astype(np.int32),
        "class_ap": judged.class_ap,
        "class_ap50": judged.class_ap50,
        "thresholds": judged.thresholds,
        "precision": judged.precision,
        "overlaps": judged.overlaps,
    }
    if found.outlines:
        encoded = [outline.encode("ascii") for outline in found.outlines]
        details["found_outlines"] = np.frombuffer(b"".join(encoded), np.uint8).copy()
        details["found_outline_ends"] = np.cumsum([len(outline) for outline in encoded])
    return {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in details.items()}


def in_original(boxes: Tensor, side: int, width: int, height: int) -> Tensor:
    """Boxes [n, 4] of a network's square input of `side` in the pixels of the image that was stretched to it, none beyond its edges."""
    size = torch.tensor([width, height, width, height], dtype=boxes.dtype, device=boxes.device)
    return torch.minimum((boxes * (size / side)).clamp(min=0), size)


def _never_found(names: Sequence[str], places: str) -> dict[str, tuple[str, str]]:
    if not names:
        return {}
    return {
        "never-predicted": (
            f"The network finds not one {named(names)} in its place, although the validation images show some.",
            f"Add images of the class, train longer, or look whether its {places} are right and large enough to be seen at this input size.",
        )
    }
