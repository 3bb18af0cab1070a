"""Who is next: round robin over people, then over each one's tasks, then age. Pure; the dispatcher and the place in the queue follow it."""

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Group:
    """Jobs of one task that wait. `first` is when the task was created, in seconds: smaller is older.

    `interrupted`: the task had begun, and none of its jobs is at work or queued any more.
    """

    person: str
    task_id: str
    first: float
    count: int
    interrupted: bool = False


def fair_order(
    groups: Iterable[Group], people_busy: Mapping[str, int], tasks_busy: Mapping[str, int], last_turn: Mapping[str, int] | None = None
) -> Iterator[Group]:
    """The groups in the order in which they get their next job in, each as often as it has jobs.

    Whoever has the fewest jobs running or queued is next; among equals whoever's turn is the longest ago, then the older.
    The same holds between the tasks of one person, but that those that were interrupted go on before others begin, the oldest first. A large
    task thus never shuts out a small one.

    Args:
        groups: What waits.
        people_busy: Jobs running or queued, by person.
        tasks_busy: The same by task.
        last_turn: When people and tasks (both by their name) last had a turn, counting up; missing: never.
    """
    turns = dict(last_turn or {})
    turn = max(turns.values(), default=0)
    busy: Counter[str] = Counter(people_busy)
    tasks: dict[str, list[tuple[int, bool, int, float, int, Group]]] = defaultdict(list)
    for index, group in enumerate(groups):
        last = 0 if group.interrupted else turns.get(group.task_id, 0)
        tasks[group.person].append((tasks_busy.get(group.task_id, 0), not group.interrupted, last, group.first, index, group))
    left = {group.task_id: group.count for entries in tasks.values() for *_, group in entries}
    for entries in tasks.values():
        heapq.heapify(entries)
    people = [(busy[person], turns.get(person, 0), entries[0][3], person) for person, entries in tasks.items()]
    heapq.heapify(people)
    while people:
        *_, person = heapq.heappop(people)
        load, *_, first, index, group = heapq.heappop(tasks[person])
        turn += 1
        busy[person] += 1
        left[group.task_id] -= 1
        if left[group.task_id] > 0:
            heapq.heappush(tasks[person], (load + 1, True, turn, first, index, group))
        if tasks[person]:
            heapq.heappush(people, (busy[person], turn, tasks[person][0][3], person))
        yield group
