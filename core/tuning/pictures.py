"""The pictures of a search: scores against the hyperparameters that were tried, and who copied whom in a population."""

from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.ticker import MaxNLocator, NullFormatter, PercentFormatter

from core.figures import INK, QUIET, TRAINING, VALIDATION, new_figure, plain_axes, png
from core.tasks.hyperparameters import FIELDS, value_text
from core.tasks.states import State
from core.tuning.lineage import Descent
from core.tuning.search import Values
from core.tuning.standings import JobStanding, Standings

_NAMED = 48  # up to so many jobs are told apart by their numbers
_KINDS = (("going on", TRAINING, "o"), ("finished", TRAINING, "s"), ("ended early", QUIET, "v"), ("failed", VALIDATION, "X"))


def scores_picture(standings: Standings) -> bytes:
    """The best score of each job so far against each hyperparameter in which the jobs differ, as PNG; the best job is ringed."""
    names = standings.varied or ("learning_rate",)
    figure, panels = new_figure(3 + 3.6 * len(names), 4.2, len(names))
    figure.set_layout_engine("constrained")
    jobs = standings.ranked
    for name, axes in zip(names, panels, strict=True):
        plain_axes(axes, FIELDS[name].label)
        if name == "learning_rate":
            axes.set_xscale("log")
            axes.tick_params(which="minor", length=0)
        for kind, colour, marker in _KINDS:
            points = [job for job in jobs if _kind(job) == kind]
            if points:
                where = [job.values[name] for job in points], [float(job.score or 0) for job in points]
                axes.scatter(*where, s=46, color=colour, marker=marker, alpha=0.8, linewidths=0, label=kind, zorder=3)
        for job in jobs[:_NAMED]:
            place = (job.values[name], float(job.score or 0))
            axes.annotate(str(job.number), place, xytext=(5, 4), textcoords="offset points", fontsize=7, color=QUIET, zorder=4)
        if jobs:
            axes.scatter(
                [jobs[0].values[name]], [float(jobs[0].score or 0)], s=170, facecolors="none", edgecolors=INK, linewidths=1.4, zorder=4
            )
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
        axes.margins(0.12, 0.14)
        _label_values(axes, name, [job.values[name] for job in jobs])
    if jobs:
        panels[0].set_ylabel(f"{_score_title(standings)}, best epoch", color=QUIET, fontsize=9)
        figure.legend(
            *panels[0].get_legend_handles_labels(), loc="outside lower left", ncols=4, frameon=False, fontsize=8.5, labelcolor=INK
        )
        so_far = "" if all(job.state.ended for job in standings.jobs) else " so far"
        title = f"Job {jobs[0].number} is the best{so_far}: {100 * float(jobs[0].score or 0):.1f} %"
    else:
        title = "No job has finished an epoch yet"
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, color=INK)
    return png(figure)


def lineage_picture(standings: Standings, descents: Sequence[Descent]) -> bytes:
    """Each member of a population along its epochs, coloured by its learning rate, an arrow from whom it copied to whoever did; as PNG."""
    rates = [job.values["learning_rate"] for job in standings.jobs]
    rates += [values["learning_rate"] for copy in descents for values in (copy.before, copy.after)]
    norm = LogNorm(min(rates) * 0.999, max(rates) * 1.001)
    colours = mpl.colormaps["viridis"]
    figure, (axes,) = new_figure(11, 1.8 + 0.3 * len(standings.jobs), 1)
    plain_axes(axes, f"Lineage of the population: {len(descents)} {'copy' if len(descents) == 1 else 'copies'}")
    axes.grid(axis="y", visible=False)
    last = max(job.epochs for job in standings.jobs)
    for job in standings.jobs:
        own = [copy for copy in descents if copy.number == job.number]
        edges = [0, *(copy.epoch for copy in own), job.epoch]
        values: list[Values] = [*(copy.before for copy in own), own[-1].after if own else job.values]
        for start, end, drawn in zip(edges[:-1], edges[1:], values, strict=True):
            axes.plot([start, end], [job.number] * 2, color=colours(norm(drawn["learning_rate"])), linewidth=5, solid_capstyle="butt")
        if job.score is not None:
            text = f"{100 * job.score:.1f} %" + (", failed" if job.state == State.ERROR else "")
            axes.text(job.epoch + 0.012 * last, job.number, text, va="center", fontsize=8, color=QUIET)
    for copy in descents:
        axes.annotate(
            "",
            (copy.epoch, copy.number),
            (copy.epoch, copy.source),
            # Bent, so that two between the same members at the same epoch are told apart.
            arrowprops={"arrowstyle": "-|>", "color": INK, "linewidth": 0.9, "alpha": 0.8, "connectionstyle": "arc3,rad=0.15"},
        )
    axes.set_xlim(-0.01 * last, 1.12 * last)
    axes.set_ylim(len(standings.jobs) + 0.6, 0.4)
    axes.set_yticks([job.number for job in standings.jobs], [f"member {job.number}" for job in standings.jobs], fontsize=8, color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel(
        "Epochs of the copying member; an arrow leads from the copied member to the one that copied it", color=QUIET, fontsize=9
    )
    bar = figure.colorbar(ScalarMappable(norm, colours), ax=axes, fraction=0.02, pad=0.01, aspect=30)
    bar.outline.set_visible(False)
    bar.ax.tick_params(which="both", labelsize=8, colors=QUIET, length=0)
    bar.set_label("learning rate", color=QUIET, fontsize=8)
    return png(figure)


def _kind(job: JobStanding) -> str:
    if job.state == State.ERROR:
        return "failed"
    if job.ended_early:
        return "ended early"
    return "finished" if job.state.ended else "going on"


def _score_title(standings: Standings) -> str:
    return standings.score_name.replace("_", " ").capitalize() or "Score"


def _label_values(axes: Axes, name: str, values: Sequence[float]) -> None:
    """Where only a few values were tried, those are what stands at the axis."""
    tried = sorted(set(values))
    if 1 <= len(tried) <= 6:
        axes.set_xticks(tried, [value_text(value) for value in tried])
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.minorticks_off()
    elif name != "learning_rate":
        axes.xaxis.set_major_locator(MaxNLocator(5))
