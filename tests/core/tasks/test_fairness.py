"""Who is next, as a pure decision."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.tasks.fairness import Group, fair_order


def order(
    groups: list[Group], people: dict[str, int] | None = None, tasks: dict[str, int] | None = None, turns: dict[str, int] | None = None
) -> str:
    return "".join(group.task_id for group in fair_order(groups, people or {}, tasks or {}, turns))


@pytest.mark.parametrize(
    ("groups", "people", "tasks", "turns", "expected"),
    [
        # one person, one task: by age
        ([("ada", "a", 1, 3)], {}, {}, {}, "aaa"),
        # a large task never shuts out a small one of somebody else, nor of the same person
        ([("ada", "a", 1, 5), ("grace", "b", 9, 1)], {}, {}, {}, "abaaaa"),
        ([("ada", "a", 1, 5), ("ada", "b", 9, 1)], {}, {}, {}, "abaaaa"),
        # people take turns, whoever has how many tasks
        ([("ada", "a", 1, 2), ("ada", "b", 2, 2), ("grace", "c", 3, 4)], {}, {}, {}, "acbcacbc"),
        # what runs already counts
        ([("ada", "a", 1, 2), ("grace", "b", 2, 2)], {"ada": 1}, {"a": 1}, {}, "baba"),
        ([("ada", "a", 1, 1), ("ada", "b", 2, 1)], {"ada": 3}, {"a": 3}, {}, "ba"),
        # among equals whoever had a turn longest ago
        ([("ada", "a", 1, 1), ("grace", "b", 2, 1)], {}, {}, {"ada": 7, "grace": 6}, "ba"),
        ([("ada", "a", 1, 1), ("ada", "b", 2, 1)], {}, {}, {"a": 7, "b": 6}, "ba"),
        # of one person's tasks what was interrupted goes on first, however young and late its turn; then they take turns again
        ([("ada", "a", 1, 1), ("ada", "b", 9, 3, True)], {}, {}, {"b": 7}, "babb"),
        # of those the oldest, also where it has had the later turn
        ([("ada", "a", 1, 1, True), ("ada", "b", 2, 1, True)], {}, {}, {"a": 7, "b": 6}, "ab"),
        # between people that changes nothing
        ([("ada", "a", 1, 1), ("ada", "b", 9, 1, True), ("grace", "c", 5, 1)], {"ada": 1}, {}, {"ada": 1}, "cba"),
        ([], {}, {}, {}, ""),
    ],
)
def test_order(groups: list[tuple[Any, ...]], people: dict[str, int], tasks: dict[str, int], turns: dict[str, int], expected: str) -> None:
    assert order([Group(*group) for group in groups], people, tasks, turns) == expected


@settings(deadline=None)
@given(
    st.dictionaries(
        st.tuples(st.sampled_from(["ada", "grace", "mary"]), st.sampled_from("abcdef")).map(lambda pair: (pair[0], pair[0][0] + pair[1])),
        st.integers(1, 12),
        max_size=12,
    )
)
def test_nobody_is_more_than_one_ahead_while_all_wait(waiting: dict[tuple[str, str], int]) -> None:
    groups = [Group(person, task, age, count) for age, ((person, task), count) in enumerate(waiting.items())]
    left = Counter({group.task_id: group.count for group in groups})
    got: Counter[str] = Counter()
    for group in fair_order(groups, {}, {}):
        left[group.task_id] -= 1
        got[group.person] += 1
        still = {other.person for other in groups if left[other.task_id] > 0}
        if len(still) > 1:
            counts = [got[person] for person in still]
            assert max(counts) - min(counts) <= 1
    assert all(count == 0 for count in left.values()), "everything gets its turn, once"
