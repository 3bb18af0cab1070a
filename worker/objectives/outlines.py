"""Outlines of the masks that a network has found, at the size of the original images."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from core.datasets import masks
from worker.engine.data import with_all_cores


def outlines_of(probabilities: Tensor, width: int, height: int) -> list[str]:
    """Run-length encodings, at the size of the original image, of masks [n, 1, side, side] of probabilities.

    Those are stretched bilinearly, as `torch.nn.functional.interpolate` does; of each mask only where something is covered.
    """
    covered = probabilities[:, 0] >= 0.5
    columns, rows = covered.any(1).cpu().numpy(), covered.any(2).cpu().numpy()
    across, down = _Stretch.of(probabilities.shape[3], width), _Stretch.of(probabilities.shape[2], height)
    axes = [(across.around(column), down.around(row)) for column, row in zip(columns, rows, strict=True)]
    given = [mask[y.source, x.source].float().cpu().numpy() for mask, (x, y) in zip(probabilities[:, 0], axes, strict=True)]
    outlines = [""] * len(given)

    def encode(index: int) -> None:
        x, y = axes[index]
        # First the lines, then, turned, the columns: in memory they lie one after the other, as the encoding wants them.
        whole = x.between(np.ascontiguousarray(y.between(given[index]).T)).T
        outlines[index] = masks.encode_part(whole >= 0.5, x.first, y.first, width, height)

    with_all_cores(len(given), encode, lambda: False)  # NumPy computes without holding the interpreter's lock
    return outlines


@dataclass(frozen=True)
class _Stretch:
    """One axis of a picture that is stretched: each pixel of the result lies between two of the source.

    From `first` on pixels lie between `low` and `high` of those of `source`, at `share` of the way.
    """

    source: slice
    first: int
    low: NDArray[np.int64]
    high: NDArray[np.int64]
    share: NDArray[np.float32]

    @classmethod
    def of(cls, given: int, wanted: int) -> "_Stretch":
        """`given` pixels stretched to `wanted`."""
        place = ((np.arange(wanted) + 0.5) * (given / wanted) - 0.5).clip(0, given - 1)
        low = place.astype(np.int64)
        return cls(slice(0, given), 0, low, np.minimum(low + 1, given - 1), (place - low).astype(np.float32))

    def between(self, lines: NDArray[np.float32]) -> NDArray[np.float32]:
        """The lines [wanted, …] that lie between those given, [given, …]."""
        low, high = lines[self.low], lines[self.high]
        high -= low
        high *= self.share[:, None]
        high += low
        return high

    def around(self, covered: NDArray[np.bool_]) -> "_Stretch":
        """As much of it as lies next to a pixel of the source that is `covered`."""
        begin, end = int(covered.argmax()), len(covered) - int(covered[::-1].argmax())
        part = slice(int(np.searchsorted(self.high, begin)), int(np.searchsorted(self.low, end)))
        if not covered.any() or part.start >= part.stop:  # the latter where a picture shrinks, and its pixels lie beside what is covered
            part = slice(0, 0)
        low, high = self.low[part], self.high[part]
        source = slice(int(low[0]), int(high[-1]) + 1) if len(low) else slice(0, 0)
        return _Stretch(source, part.start, low - source.start, high - source.start, self.share[part])
