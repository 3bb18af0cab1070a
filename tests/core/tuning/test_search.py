"""Grids, draws, and what people may give for them."""

import math

import pytest

from core.errors import InvalidInputError
from core.tasks.hyperparameters import FieldError, RefusedFieldsError, parse_fields
from core.tuning.search import SEARCH_FIELDS, Search, draw, fields_of, grid, grid_refusal, made, product_text, typed_product, typed_refusals
from core.vocabulary import Tuning


@pytest.mark.parametrize(
    ("values", "text", "refused"),
    [
        (([0.1], [0], [0.9]), "1 learning rate × 1 weight decay × 1 momentum = 1 training job", False),
        (([0.1, 0.01], [0], [0.9, 0.8]), "2 learning rates × 1 weight decay × 2 momenta = 4 training jobs", False),
        (([1, 2, 3, 4], [0, 1, 2, 3], [1, 2, 3]), "4 learning rates × 4 weight decays × 3 momenta = 48 training jobs", False),
        (([1, 2, 3, 4, 5, 6], [0, 1, 2], [1, 2, 3]), "6 learning rates × 3 weight decays × 3 momenta = 54 training jobs", True),
        (([1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6]), "= 216 training jobs", True),
    ],
)
def test_the_product_is_written_out_and_ends_at_48(values: tuple[list[float], ...], text: str, refused: bool) -> None:
    entered = dict(zip(("learning_rate", "weight_decay", "momentum"), values, strict=True))
    assert text in product_text(entered)
    if refused:
        assert text in grid_refusal(entered) and "at most 48" in grid_refusal(entered)
        with pytest.raises(InvalidInputError, match="at most 48"):
            grid(entered)
    else:
        points = grid(entered)
        assert len(points) == len({tuple(point.values()) for point in points}) == math.prod(map(len, values))


def test_a_grid_holds_each_value_with_each_of_the_others() -> None:
    points = grid({"learning_rate": [0.1, 0.01], "weight_decay": [0.0], "momentum": [0.8, 0.9]})
    assert points == [
        {"learning_rate": 0.1, "weight_decay": 0.0, "momentum": 0.8},
        {"learning_rate": 0.1, "weight_decay": 0.0, "momentum": 0.9},
        {"learning_rate": 0.01, "weight_decay": 0.0, "momentum": 0.8},
        {"learning_rate": 0.01, "weight_decay": 0.0, "momentum": 0.9},
    ]


# ---------------------------------------------------------------- what is given


@pytest.mark.parametrize(
    ("tuning", "name", "text", "value"),
    [
        (Tuning.GRID, "learning_rate", "0.001,0.01", [0.001, 0.01]),
        (Tuning.GRID, "learning_rate", "0.001; 0.01 0.1", [0.001, 0.01, 0.1]),
        (Tuning.GRID, "learning_rate", "1e-3", [0.001]),
        (Tuning.GRID, "momentum", "0.9, 0.9, 0.8", [0.9, 0.8]),  # the same twice is one job
        (Tuning.GRID, "weight_decay", "0,0.01,0.02,0.03,0.04,0.05", [0, 0.01, 0.02, 0.03, 0.04, 0.05]),
        (Tuning.RANDOM, "learning_rate", "1e-5..1e-2", [0.00001, 0.01]),
        (Tuning.RANDOM, "learning_rate", " 0.001 … 0.1 ", [0.001, 0.1]),
        (Tuning.RANDOM, "momentum", "0.9", [0.9, 0.9]),  # held
        (Tuning.RANDOM, "jobs", "8", 8),
        (Tuning.RANDOM, "jobs", "48", 48),
        (Tuning.POPULATION, "learning_rate", "0.000003..0.03", [0.000003, 0.03]),
        (Tuning.POPULATION, "momentum", "0.8..0.99", [0.8, 0.99]),
        (Tuning.RANDOM, "epochs", "5", 5),
        (Tuning.GRID, "early_stop", "off", False),
    ],
)
def test_lists_and_ranges_are_read(tuning: Tuning, name: str, text: str, value: object) -> None:
    assert parse_fields({name: text}, fields_of(tuning)) == {name: value}


@pytest.mark.parametrize(
    ("tuning", "name", "text", "allowed"),
    [
        (Tuning.GRID, "learning_rate", "0.1,2", "up to 6 numbers from 0.000001 to 1"),
        (Tuning.GRID, "learning_rate", "", "up to 6 numbers"),
        (Tuning.GRID, "learning_rate", "a,b", "up to 6 numbers"),
        (Tuning.GRID, "learning_rate", "nan", "up to 6 numbers"),
        (Tuning.GRID, "momentum", "0.1,0.2,0.3,0.4,0.5,0.6,0.7", "up to 6 numbers from 0 to 0.99"),
        (Tuning.GRID, "weight_decay", "0.2", "up to 6 numbers from 0 to 0.1"),
        (Tuning.RANDOM, "learning_rate", "1e-2..1e-5", "lowest..highest, both numbers from 0.000001 to 1"),
        (Tuning.RANDOM, "learning_rate", "0..0.1", "from 0.000001 to 1"),
        (Tuning.RANDOM, "learning_rate", "0.1..0.2..0.3", "lowest..highest"),
        (Tuning.RANDOM, "learning_rate", "0.1..", "lowest..highest"),
        (Tuning.RANDOM, "learning_rate", "0.1,0.2", "lowest..highest"),
        (Tuning.RANDOM, "jobs", "7", "an integer from 8 to 48"),
        (Tuning.RANDOM, "jobs", "49", "an integer from 8 to 48"),
        (Tuning.POPULATION, "jobs", "8.5", "an integer from 8 to 48"),
        (Tuning.POPULATION, "learning_rate", "0.00001..0.1", "both numbers from 0.000003 to 0.03"),
        (Tuning.POPULATION, "weight_decay", "0..0.02", "from 0 to 0.01"),
        (Tuning.POPULATION, "momentum", "0.5..0.9", "from 0.8 to 0.99"),
    ],
)
def test_what_is_refused_is_told_with_field_range_and_what_was_given(tuning: Tuning, name: str, text: str, allowed: str) -> None:
    with pytest.raises(RefusedFieldsError) as refused:
        parse_fields({name: text}, fields_of(tuning))
    message = str(refused.value)
    assert f"({name})" in message and allowed in message and f"“{text}” was given" in message


def test_a_list_is_no_single_value_and_jobs_belong_to_a_search() -> None:
    with pytest.raises(FieldError):
        fields_of(Tuning.MANUAL)["learning_rate"].parse("0.001,0.01")
    with pytest.raises(InvalidInputError, match="no hyperparameter “jobs”"):
        parse_fields({"jobs": "8"}, fields_of(Tuning.GRID))


@pytest.mark.parametrize(
    ("tuning", "jobs", "ranges"),
    [
        (Tuning.RANDOM, 8, None),
        (Tuning.POPULATION, 24, {"learning_rate": (0.000003, 0.03), "weight_decay": (0, 0.01), "momentum": (0.8, 0.99)}),
    ],
)
def test_the_defaults_are_those_of_the_reference(tuning: Tuning, jobs: int, ranges: object) -> None:
    assert SEARCH_FIELDS[tuning]["jobs"].default == jobs
    assert ranges is None or made(tuning, {}).ranges == ranges


@pytest.mark.parametrize("tuning", [Tuning.GRID, Tuning.RANDOM, Tuning.POPULATION])
def test_every_default_is_allowed_and_reads_back_as_written(tuning: Tuning) -> None:
    for field in SEARCH_FIELDS[tuning].values():
        assert field.parse(field.write(field.default)) == field.default
    search = made(tuning, {})
    assert Search.from_json(search.to_json()) == search
    assert Search.from_json({}) is None


# ---------------------------------------------------------------- random


def test_draws_repeat_with_their_seed_and_stay_in_range() -> None:
    ranges = {"learning_rate": (0.00001, 0.1), "weight_decay": (0.0, 0.01), "momentum": (0.9, 0.9)}
    drawn = draw(ranges, 48, seed=3)
    assert drawn == draw(ranges, 48, seed=3) != draw(ranges, 48, seed=4)
    assert draw(ranges, 8, seed=3) == drawn[:8]
    assert all(low <= values[name] <= high for values in drawn for name, (low, high) in ranges.items())
    assert {values["momentum"] for values in drawn} == {0.9}


def test_learning_rates_are_drawn_evenly_on_a_log_scale() -> None:
    rates = [values["learning_rate"] for values in draw(made(Tuning.RANDOM, {"learning_rate": [1e-5, 1e-1]}).ranges, 48, seed=0)]
    decades = [sum(10.0**-power <= rate < 10.0 ** (1 - power) for rate in rates) for power in (5, 4, 3, 2)]
    assert min(decades) >= 4, "each of four decades gets about twelve of 48; evenly drawn numbers would leave three of them all but empty"


@pytest.mark.parametrize(
    ("typed", "product"),
    [
        ({"grid_learning_rate": "0.1,0.01", "grid_weight_decay": "0", "grid_momentum": "0.9"}, "= 2 training jobs"),
        ({"grid_learning_rate": "0.1,", "grid_weight_decay": "0", "grid_momentum": "0.9"}, "= 1 training job"),
        ({"grid_learning_rate": "", "grid_weight_decay": "0", "grid_momentum": "0.9"}, ""),
        (
            {"grid_learning_rate": "0.1,0.2,0.3,0.4,0.5,0.6", "grid_weight_decay": "0,0.01,0.02", "grid_momentum": "0.7,0.8,0.9"},
            "= 54 training jobs; a task has at most 48",
        ),
        ({"random_learning_rate": "0.1..0.2", "random_weight_decay": "0", "random_momentum": "0.9", "random_jobs": "8"}, None),
        ({}, None),
    ],
)
def test_the_product_while_it_is_typed(typed: dict[str, str], product: str | None) -> None:
    found = typed_product(typed)
    assert found is None if product is None else found is not None and product in found and bool(found) == bool(product)


@pytest.mark.parametrize(
    ("rates", "decays", "momenta", "field"),
    [
        ("0.1,0.2,0.3,0.4,0.5,0.6", "0,0.01,0.02", "0.7,0.8,0.9", "grid_learning_rate"),
        ("0.1,0.2", "0,0.01,0.02,0.03,0.04,0.05", "0.7,0.75,0.8,0.85,0.9", "grid_weight_decay"),
        ("0.1,0.2,0.3,0.4", "0,0.01,0.02,0.03", "0.7,0.8,0.9", ""),  # 48
        ("0.1,x", "0,0.01,0.02,0.03,0.04,0.05", "0.7,0.75,0.8,0.85,0.9", ""),  # told at its own field
    ],
)
def test_too_many_are_told_at_the_field_that_holds_the_most(rates: str, decays: str, momenta: str, field: str) -> None:
    found = typed_refusals({"grid_learning_rate": rates, "grid_weight_decay": decays, "grid_momentum": momenta})
    assert list(found) == ([field] if field else [])
    assert all("training jobs; a task has at most 48" in why for why in found.values())
    assert typed_refusals({"random_jobs": "49"}) == {}
