"""What pictures drawn with matplotlib share: colours, figures without a display, plain axes, PNG bytes; and the curves of a training."""

import warnings
from collections.abc import Sequence
from io import BytesIO
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator, PercentFormatter

TRAINING, VALIDATION, BASELINE = "#0072B2", "#D55E00", "#6B7280"  # told apart also by most people who see colours differently
INK, QUIET, GRID = "#1D2129", "#6B7280", "#E5E7EB"
DPI = 120


def new_figure(width: float, height: float, columns: int) -> tuple[Figure, list[Axes]]:
    """A figure of so many inches, and its axes side by side."""
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white", layout="tight" if columns == 1 else None)
    FigureCanvasAgg(figure)
    axes = [figure.add_subplot(1, columns, place + 1) for place in range(columns)]
    if columns > 1:
        figure.subplots_adjust(left=0.06, right=0.98, top=0.9, bottom=0.14, wspace=0.18)
    return figure, axes


def plain_axes(axes: Axes, title: str) -> None:
    """A title at the left, a quiet grid, no frame."""
    axes.set_title(title, color=INK, fontsize=11, loc="left")
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=QUIET, labelsize=9, length=0, pad=6)  # so far apart that the corner's two labels do not meet
    for spine in axes.spines.values():
        spine.set_visible(False)


def legend(axes: Axes) -> None:
    """The legend, readable also where a line must run beneath it."""
    axes.legend(fontsize=9, loc="best", labelcolor=INK, frameon=True, framealpha=0.85, facecolor="white", edgecolor="none")


def png(figure: Figure) -> bytes:
    """The figure as a PNG."""
    out = BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a host without fonts of that script draws boxes
        figure.savefig(out, format="png")
    return out.getvalue()


def curves(
    history: Sequence[dict[str, Any]], *, score_name: str, score_title: str, baseline: float | None, best_epoch: int, reading: str
) -> bytes:
    """Loss and score over the epochs, of training and validation, with the majority-class baseline and the epoch that became the model.

    `history` holds per epoch train_loss, val_loss, score and, where the objective has it, train_accuracy.
    """
    figure, (left, right) = new_figure(11, 4.6, 2)
    epochs = [number + 1 for number in range(len(history))]
    marker = "o" if len(epochs) <= 30 else ""
    for axes, title in ((left, "Loss"), (right, score_title)):
        plain_axes(axes, title)
        axes.set_xlabel("Epoch", color=QUIET)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if len(epochs) == 1:
            axes.set_xlim(0.5, 1.5)
        axes.axvline(best_epoch, color=GRID, linewidth=6, zorder=0, label=f"best epoch: {best_epoch}")
    training_score = "train_accuracy" if score_name == "accuracy" else ""
    for axes, of_training, of_validation in ((left, "train_loss", "val_loss"), (right, training_score, "score")):
        if of_training and all(of_training in point for point in history):
            axes.plot(
                epochs,
                [point[of_training] for point in history],
                color=TRAINING,
                marker=marker,
                markersize=4,
                linewidth=2,
                label="training",
            )
        axes.plot(
            epochs,
            [point[of_validation] for point in history],
            color=VALIDATION,
            marker=marker,
            markersize=4,
            linewidth=2,
            label="validation",
        )
    if baseline is not None:
        name = "always the commonest class" if score_name == "accuracy" else "saying the same of every image"
        right.axhline(baseline, color=BASELINE, linestyle=(0, (4, 3)), linewidth=1.5)
        text, transform = f"{name}: {100 * baseline:.1f} %", right.get_yaxis_transform()
        place: dict[str, Any] = {"xy": (1.0, baseline), "xycoords": transform, "xytext": (0, 3), "textcoords": "offset points"}
        right.annotate(text, **place, ha="right", va="bottom", fontsize=8.5, color=BASELINE)
    values = [point["val_loss"] for point in history] + [point["train_loss"] for point in history]
    if max(values) > 20 * max(min(values), 1e-6) and min(values) > 0:
        _logarithmic(left, max(values) / min(values))
    else:
        left.set_ylim(*_loss_range(values))
    right.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    low, high = _score_range(history, training_score, baseline)
    right.set_ylim(low, high)
    right.set_yticks([tick for tick in right.get_yticks() if max(low, -1e-9) <= tick <= min(high, 1 + 1e-9)])  # no score is negative
    for axes in (left, right):  # in a line above the curves: within, with few epochs it would cover them
        axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 0.99), ncols=3, frameon=False, fontsize=9, labelcolor=INK, columnspacing=1.4)
        axes.set_title(axes.get_title("left"), color=INK, fontsize=11, loc="left", pad=25)
    figure.subplots_adjust(top=0.85)
    if reading:
        figure.text(0.02, 0.02, reading, fontsize=9.5, color=INK, va="bottom", wrap=True)
        figure.subplots_adjust(bottom=0.24)
    return png(figure)


def _logarithmic(axes: Axes, span: float) -> None:
    """A logarithmic axis that says so, with plain numbers; over a narrow `span` (highest by lowest) also at 2 and 5."""
    axes.set_yscale("log")
    axes.set_title(f"{axes.get_title('left')}, logarithmic", color=INK, fontsize=11, loc="left")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if span < 1000 else (1.0,)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}" if value < 1e6 else f"{value:.0e}"))


def _loss_range(values: Sequence[float]) -> tuple[float, float]:
    """From 0 where the curves come near it, else as the curves need: far from 0 they would all lie at the upper edge. Noise is not blown up."""
    low, high = min(values), max(values)
    if low < high / 2:
        return min(0.0, 1.06 * low), 1.06 * high
    middle, span = (low + high) / 2, max(high - low, 0.1 * high) or 1.0
    return max(0.0, middle - 0.6 * span), middle + 0.6 * span


def _score_range(history: Sequence[dict[str, Any]], of_training: str, baseline: float | None) -> tuple[float, float]:
    scores = (
        [point["score"] for point in history]
        + [point.get(of_training, point["score"]) for point in history]
        + ([] if baseline is None else [baseline])
    )
    low, high = max(0.0, min(scores)), min(1.0, max(scores))
    room = max(0.02, (high - low) * 0.08)
    edge = 0.02 * (high - low + 2 * room)  # beyond 0 and 1 only so much that a line there is seen
    return max(-edge, low - room), min(1 + edge, high + room)
