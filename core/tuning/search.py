"""What is searched, with the ranges and defaults of the reference flow, and how it becomes the values of each training job."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from core.errors import InvalidInputError
from core.tasks.hyperparameters import FIELDS, FieldError, HyperparameterField
from core.vocabulary import Tuning

TUNED = ("learning_rate", "weight_decay", "momentum")
SEARCHES = (Tuning.GRID, Tuning.RANDOM, Tuning.POPULATION)
MAX_JOBS = 48
MAX_VALUES = 6  # of one hyperparameter in a grid

PLURALS = {"learning_rate": "learning rates", "weight_decay": "weight decays", "momentum": "momenta"}

Values = dict[str, float]  # one value for each of TUNED
Ranges = dict[str, tuple[float, float]]  # lowest and highest


@dataclass(frozen=True)
class Search:
    """A task's search as it is stored. `values` are a grid's, `ranges` those of the other two; `why` says why auto has chosen it."""

    tuning: Tuning
    values: dict[str, list[float]] = field(default_factory=dict)
    ranges: Ranges = field(default_factory=dict)
    why: str = ""

    def to_json(self) -> dict[str, Any]:
        """As stored with the task."""
        ranges = {name: list(ends) for name, ends in self.ranges.items()}
        return {"tuning": self.tuning.value, "values": self.values, "ranges": ranges, "why": self.why}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Search | None":
        """The search that is stored with a task; None where it has none."""
        if not stored.get("tuning"):
            return None
        ranges = {name: (float(low), float(high)) for name, (low, high) in stored["ranges"].items()}
        return cls(Tuning(stored["tuning"]), dict(stored["values"]), ranges, str(stored["why"]))


# Limits and defaults of the reference flow. For random search it names no range to begin with: ours holds what SGD usually wants.
_POPULATION: Ranges = {"learning_rate": (0.000003, 0.03), "weight_decay": (0.0, 0.01), "momentum": (0.8, 0.99)}
_RANDOM: Ranges = {"learning_rate": (0.0001, 0.1), "weight_decay": (0.0, 0.01), "momentum": (0.8, 0.99)}
_FEWEST_JOBS = 8
_DEFAULT_JOBS = {Tuning.RANDOM: 8, Tuning.POPULATION: 24}


def _search_fields(tuning: Tuning) -> dict[str, HyperparameterField]:
    if tuning == Tuning.GRID:
        return {
            name: replace(
                FIELDS[name],
                kind="values",
                label=PLURALS[name].capitalize(),
                hint="Tried each with each of the others",
                default=[float(FIELDS[name].default)],
                most=MAX_VALUES,
            )
            for name in TUNED
        }
    fields = {}
    for name in TUNED:
        low, high = (_POPULATION if tuning == Tuning.POPULATION else _RANDOM)[name]
        scale = "Drawn on a logarithmic scale" if name == "learning_rate" else "Drawn evenly"
        field_ = replace(FIELDS[name], kind="range", hint=scale, default=[low, high])
        fields[name] = replace(field_, minimum=low, maximum=high) if tuning == Tuning.POPULATION else field_
    fields["jobs"] = HyperparameterField(
        name="jobs",
        kind="integer",
        group=FIELDS["learning_rate"].group,
        label="Training jobs",
        hint="How many sets of hyperparameters are tried" if tuning == Tuning.RANDOM else "How many members the population has",
        unit="",
        default=_DEFAULT_JOBS[tuning],
        minimum=_FEWEST_JOBS,
        maximum=MAX_JOBS,
        choices=(),
        allows_auto=False,
    )
    return fields


SEARCH_FIELDS: dict[Tuning, dict[str, HyperparameterField]] = {tuning: _search_fields(tuning) for tuning in SEARCHES}


# In a form each tuning's fields have names of their own: what was typed for one is no value for another.
FORM_FIELDS: dict[str, HyperparameterField] = {
    f"{tuning}_{name}": field for tuning, fields in SEARCH_FIELDS.items() for name, field in fields.items()
}
# Every field of the wizard's forms by the name it has there: faces check what is typed before it is sent.
TYPED_FIELDS = {**FIELDS, **FORM_FIELDS}


def fields_of(tuning: Tuning) -> dict[str, HyperparameterField]:
    """Every field that may be given with a tuning: what is searched takes lists or ranges, all else one value.

    Members of a population that fall behind copy a better one: none is stopped early.
    """
    single = dict(FIELDS)
    if tuning == Tuning.POPULATION:
        del single["early_stop"]
    elif tuning in SEARCHES:
        single["early_stop"] = replace(
            FIELDS["early_stop"], hint="End a job when neither validation loss nor score gets better, or the others leave it behind"
        )
    return {**single, **SEARCH_FIELDS.get(tuning, {})}


def made(tuning: Tuning, entered: Mapping[str, Any]) -> Search:
    """The search from what was entered, with the defaults for the rest."""
    fields = SEARCH_FIELDS[tuning]
    given = {name: entered.get(name, fields[name].default) for name in TUNED}
    if tuning == Tuning.GRID:
        return Search(tuning, values={name: [float(value) for value in given[name]] for name in TUNED})
    return Search(tuning, ranges={name: (float(given[name][0]), float(given[name][-1])) for name in TUNED})


def search_rows(search: Search) -> tuple[tuple[str, str], ...]:
    """What is tried, as names and values to be read."""
    if search.tuning == Tuning.GRID:
        tried = {name: SEARCH_FIELDS[Tuning.GRID][name].write(search.values[name]) for name in TUNED}
        return (*((PLURALS[name].capitalize(), text) for name, text in tried.items()), ("Together", product_text(search.values)))
    ends = {name: SEARCH_FIELDS[search.tuning][name].write(search.ranges[name]) for name in TUNED}
    return tuple((FIELDS[name].label, text) for name, text in ends.items())


# ---------------------------------------------------------------- grid


def product_text(values: Mapping[str, Sequence[float]]) -> str:
    """The sum written out: `2 learning rates × 1 weight decay × 3 momenta = 6 training jobs`."""
    counts = {name: len(values[name]) for name in TUNED}
    parts = [f"{count} {FIELDS[name].label.lower() if count == 1 else PLURALS[name]}" for name, count in counts.items()]
    total = math.prod(counts.values())
    return f"{' × '.join(parts)} = {total} training job{'' if total == 1 else 's'}"


def grid_refusal(values: Mapping[str, Sequence[float]]) -> str:
    """Why a grid is too large, with the sum; empty where it is not."""
    if math.prod(len(values[name]) for name in TUNED) <= MAX_JOBS:
        return ""
    return f"{product_text(values)}; a task has at most {MAX_JOBS}. Give fewer values to try."


def typed_product(typed: Mapping[str, str]) -> str | None:
    """The product of what stands in a grid's form while it is typed, or why that is too many; empty where it cannot be read yet.

    None where the fields, by the names they have in forms, are not those of a grid.
    """
    if not _GRID_NAMES.keys() <= typed.keys():
        return None
    values = _typed_grid(typed)
    return "" if values is None else grid_refusal(values) or product_text(values)


def typed_refusals(typed: Mapping[str, str]) -> dict[str, str]:
    """Where a grid's form makes too many jobs: why, by the name in the form of the field that holds the most values."""
    values = _typed_grid(typed) if _GRID_NAMES.keys() <= typed.keys() else None
    refusal = grid_refusal(values) if values is not None else ""
    if values is None or not refusal:
        return {}
    return {max(_GRID_NAMES, key=lambda name: len(values[_GRID_NAMES[name]])): refusal}


_GRID_NAMES = {f"{Tuning.GRID}_{name}": name for name in TUNED}


def _typed_grid(typed: Mapping[str, str]) -> dict[str, list[float]] | None:
    """What stands in a grid's form, None where it cannot be read yet."""
    try:
        return {name: FORM_FIELDS[in_form].parse(typed[in_form]) for in_form, name in _GRID_NAMES.items()}
    except FieldError:
        return None


def grid(values: Mapping[str, Sequence[float]]) -> list[Values]:
    """Each value with each of the others, the last hyperparameter changing first.

    Raises:
        InvalidInputError: when these are more than 48 jobs; the sum is written out.
    """
    refusal = grid_refusal(values)
    if refusal:
        raise InvalidInputError(refusal)
    return [dict(zip(TUNED, point, strict=True)) for point in itertools.product(*(values[name] for name in TUNED))]


# ---------------------------------------------------------------- random


def draw(ranges: Ranges, jobs: int, seed: int) -> list[Values]:
    """So many sets of values by Optuna's random sampler: learning rates evenly on a log scale, the other two evenly; the same for a seed."""
    # Half a second to import: only whoever draws pays it.
    from core.tuning.studies import new_study, random_sampler, space

    study = new_study(sampler=random_sampler(seed))
    distributions = space({name: ranges[name] for name in TUNED}, logarithmic=("learning_rate",))
    drawn = [study.ask(distributions).params for _ in range(jobs)]
    return [{name: rounded(params[name], ranges[name]) for name in TUNED} for params in drawn]


def rounded(value: float, ends: tuple[float, float]) -> float:
    """To three significant digits, as people would write it, and within the range."""
    return min(max(float(f"{value:.3g}"), ends[0]), ends[1])


def values_of(plan: Mapping[str, Any]) -> Values:
    """The searched values of a job's plan."""
    return {name: float(plan[name]) for name in TUNED}
