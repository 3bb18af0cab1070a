"""The pictures of a search: scores against the hyperparameters that were tried, and who copied whom in a population."""

import math
from collections.abc import Sequence
from itertools import pairwise

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator, PercentFormatter

from core.figures import INK, QUIET, TRAINING, VALIDATION, new_figure, plain_axes, png
from core.tasks.hyperparameters import FIELDS, value_text
from core.tasks.states import State
from core.tuning.lineage import Family
from core.tuning.search import Values
from core.tuning.standings import JobStanding, Standings
from core.vocabulary import METRIC_NAMES

_NAMED, _NAMED_OF_MANY = 12, 6  # so many jobs have their numbers beside them, of more only the best
_COLUMNS, _COLUMN_WIDTH = 6, 0.7  # up to so many values have a column each
_MANY_ARROWS = 20  # of more, those that do not lead to the best are pale
_WIDE = 20  # from so many times between the least and the largest value on the axis is logarithmic
_LONGEST_LINE = 8  # of members in a title
_KINDS = (("going on", TRAINING, "o"), ("finished", TRAINING, "s"), ("ended early", QUIET, "v"), ("failed", VALIDATION, "X"))


def scores_picture(standings: Standings) -> bytes:
    """The best score of each job so far against each hyperparameter in which the jobs differ, as PNG; the best job is ringed."""
    names = standings.varied or ("learning_rate",)
    figure, panels = new_figure(3 + 3.6 * len(names), 4.2, len(names))
    figure.set_layout_engine("constrained")
    jobs = standings.ranked
    told = jobs[: len(jobs) if len(jobs) <= _NAMED else _NAMED_OF_MANY]
    for name, axes in zip(names, panels, strict=True):
        plain_axes(axes, FIELDS[name].label)
        places = _places(axes, name, jobs)
        for kind, colour, marker in _KINDS:
            of_kind = [job for job in jobs if _kind(job) == kind]
            if of_kind:
                where = [places[job.number] for job in of_kind], [float(job.score or 0) for job in of_kind]
                axes.scatter(*where, s=46, color=colour, marker=marker, alpha=0.8, linewidths=0, label=kind, zorder=3)
        for job in told:
            place = (places[job.number], float(job.score or 0))
            axes.annotate(str(job.number), place, xytext=(5, 4), textcoords="offset points", fontsize=7, color=QUIET, zorder=4)
        if jobs:
            axes.scatter(
                [places[jobs[0].number]], [float(jobs[0].score or 0)], s=170, facecolors="none", edgecolors=INK, linewidths=1.4, zorder=4
            )
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
        axes.margins(0.12, 0.14)
        if jobs:
            low, high = axes.get_ylim()
            axes.set_yticks([tick for tick in axes.get_yticks() if max(low, -1e-9) <= tick <= min(high, 1 + 1e-9)])  # no score is beyond
        else:
            axes.set_xticks([])
            axes.set_yticks([])
    if jobs:
        panels[0].set_ylabel(f"{_score_title(standings)}, best epoch", color=QUIET, fontsize=9)
        handles: dict[str, Artist] = {}
        for axes in panels:
            handles |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
        figure.legend(handles.values(), handles.keys(), loc="outside lower left", ncols=4, frameon=False, fontsize=8.5, labelcolor=INK)
        so_far = "" if all(job.state.ended for job in standings.jobs) else " so far"
        title = f"Job {jobs[0].number} is the best{so_far}: {100 * float(jobs[0].score or 0):.1f} %"
    else:
        title = "No job has finished an epoch yet"
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, color=INK)
    return png(figure)


def _places(axes: Axes, name: str, jobs: Sequence[JobStanding]) -> dict[int, float]:
    """Where each job stands along the axis, by number, and the axis made to fit.

    Of a few values that several jobs share, as in a grid, each has a column, and its jobs stand side by side in it, in their order.
    """
    tried = sorted({job.values[name] for job in jobs})
    if not 1 <= len(tried) <= _COLUMNS:
        positive = [value for value in tried if value > 0]
        if positive and tried[0] >= 0 and positive[-1] > _WIDE * positive[0]:
            # Tried by magnitude: on an even axis most would lie on each other. Of 0 a logarithmic one knows nothing.
            if tried[0] == 0:
                axes.set_xscale("symlog", linthresh=positive[0])
            else:
                axes.set_xscale("log")
            axes.xaxis.set_minor_locator(NullLocator())
        else:
            axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: value_text(round(value, 8))))
        return {job.number: job.values[name] for job in jobs}
    places = {}
    for column, value in enumerate(tried):
        numbers = sorted(job.number for job in jobs if job.values[name] == value)
        for place, number in enumerate(numbers, 1):
            places[number] = column + _COLUMN_WIDTH * (place / (len(numbers) + 1) - 0.5)
    axes.set_xticks(range(len(tried)), [value_text(value) for value in tried])
    axes.set_xlim(-0.6, len(tried) - 0.4)
    return places


def lineage_picture(standings: Standings, family: Family) -> bytes:
    """Each member of a population along its epochs, the best on top, coloured by its learning rate, an arrow from whom it copied to whoever
    did; dark is the line that leads to the best epoch of all. As PNG.
    """
    rates = [job.values["learning_rate"] for job in standings.jobs]
    rates += [values["learning_rate"] for copy in family.copies for values in (copy.before, copy.after)]
    norm = LogNorm(min(rates) * 0.999, max(rates) * 1.001)
    colours = mpl.colormaps["viridis"]
    ordered = [*standings.ranked, *(job for job in standings.jobs if job.score is None)]
    rows = {job.number: row for row, job in enumerate(ordered, 1)}
    figure, (axes,) = new_figure(11, 1.8 + 0.3 * len(rows), 1)
    copies = f"{len(family.copies)} {'copy' if len(family.copies) == 1 else 'copies'}"
    plain_axes(axes, f"Lineage of the population, {copies}{_line_text(family)}")
    axes.grid(axis="y", visible=False)
    last = max(job.epochs for job in ordered)
    for stretch in family.line:
        axes.plot([stretch.start, stretch.end], [rows[stretch.number]] * 2, color=INK, linewidth=9, solid_capstyle="butt")
    for job in ordered:
        own = [copy for copy in family.copies if copy.number == job.number]
        edges = [0, *(copy.epoch for copy in own), job.epoch]
        values: list[Values] = [*(copy.before for copy in own), own[-1].after if own else job.values]
        for start, end, drawn in zip(edges[:-1], edges[1:], values, strict=True):
            axes.plot([start, end], [rows[job.number]] * 2, color=colours(norm(drawn["learning_rate"])), linewidth=5, solid_capstyle="butt")
        if job.score is not None:
            text = f"{100 * job.score:.1f} %" + (", failed" if job.state == State.ERROR else "")
            axes.text(job.epoch + 0.012 * last, rows[job.number], text, va="center", fontsize=8, color=QUIET)
    inherited = {(heir.number, heir.start, giver.number) for giver, heir in pairwise(family.line)}
    many = len(family.copies) > _MANY_ARROWS
    for copy in family.copies:
        dark = (copy.number, copy.epoch, copy.source) in inherited
        look = (
            {"color": INK, "linewidth": 1.8, "alpha": 1.0} if dark else {"color": QUIET, "linewidth": 0.8, "alpha": 0.35 if many else 0.8}
        )
        axes.annotate(
            "",
            (copy.epoch, rows[copy.number]),
            (copy.source_epoch, rows[copy.source]),
            # Bent, so that two between the same members at the same epoch are told apart.
            arrowprops={"arrowstyle": "-|>", "connectionstyle": "arc3,rad=0.15", **look},
            zorder=6 if dark else 2,
        )
    axes.set_xlim(-0.01 * last, 1.12 * last)
    axes.set_ylim(len(rows) + 0.6, 0.4)
    axes.set_yticks(list(rows.values()), [f"member {number}" for number in rows], fontsize=8, color=INK)
    axes.set_xticks([tick for tick in MaxNLocator(nbins=10, integer=True).tick_values(0, last) if 0 <= tick <= last])
    axes.set_xlabel("Epochs of each member; an arrow leads from the copied member to the one that copied it", color=QUIET, fontsize=9)
    bar = figure.colorbar(ScalarMappable(norm, colours), ax=axes, fraction=0.02, pad=0.01, aspect=30)
    told = [min(rates)] if min(rates) == max(rates) else [min(rates), math.sqrt(min(rates) * max(rates)), max(rates)]
    bar.set_ticks(told, labels=[value_text(float(f"{rate:.2g}")) for rate in told], minor=False)
    bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.outline.set_visible(False)
    bar.ax.tick_params(which="both", labelsize=8, colors=QUIET, length=0)
    bar.set_label("learning rate", color=QUIET, fontsize=8)
    return png(figure)


def _line_text(family: Family) -> str:
    """Whose weights the best ones were before, for the title."""
    if len(family.line) < 2:
        return ""
    numbers = [str(stretch.number) for stretch in family.line]
    shown = numbers if len(numbers) <= _LONGEST_LINE else [*numbers[:2], "…", *numbers[-_LONGEST_LINE + 2 :]]
    return f": the best weights went through members {' → '.join(shown)}"


def _kind(job: JobStanding) -> str:
    if job.state == State.ERROR:
        return "failed"
    if job.ended_early:
        return "ended early"
    return "finished" if job.state.ended else "going on"


def _score_title(standings: Standings) -> str:
    return METRIC_NAMES.get(standings.score_name, "Score")
