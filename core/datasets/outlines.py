"""The outlines of a mask along pixel edges, exact: drawn again as a polygon they give the same mask."""

import numpy as np

Point = tuple[int, int]


def outlines(mask: np.ndarray) -> list[list[Point]]:
    """The closed rings around what is covered, holes too, each as corners (x, y) in px without the first repeated."""
    padded = np.pad(mask.astype(bool), 1)
    inside = padded[1:-1, 1:-1]
    leaving: dict[Point, list[Point]] = {}

    def add(where: np.ndarray, start: Point, end: Point) -> None:
        for y, x in np.argwhere(where).tolist():
            leaving.setdefault((x + start[0], y + start[1]), []).append((x + end[0], y + end[1]))

    # Clockwise on the screen: what is covered lies to the right of each edge.
    add(inside & ~padded[:-2, 1:-1], (0, 0), (1, 0))  # top
    add(inside & ~padded[1:-1, 2:], (1, 0), (1, 1))  # right
    add(inside & ~padded[2:, 1:-1], (1, 1), (0, 1))  # bottom
    add(inside & ~padded[1:-1, :-2], (0, 1), (0, 0))  # left
    rings = []
    while leaving:
        start = next(iter(leaving))
        rings.append(_ring(start, leaving))
    return rings


def _ring(start: Point, leaving: dict[Point, list[Point]]) -> list[Point]:
    crossing = len(leaving[start]) > 1
    first: Point | None = None
    corners: list[Point] = []
    here, before = start, (0, 0)
    while True:
        # Where two pixels touch at a corner only, the turn to the right keeps their rings apart.
        right = (here[0] - before[1], here[1] + before[0])
        ends = leaving[here]
        end = right if right in ends else ends[0]
        ends.remove(end)
        if not ends:
            del leaving[here]
        step = (end[0] - here[0], end[1] - here[1])
        if step != before:
            corners.append(here)
        first = first or step
        here, before = end, step
        if here == start and (not crossing or (-before[1], before[0]) == first):
            return corners if before != first else corners[1:]


def joined(rings: list[list[Point]]) -> list[Point]:
    """Several rings as one polygon: lines of no width lead to each further ring and back, as YOLO wants one polygon per object."""
    points = list(rings[0])
    home = points[0]
    for ring in rings[1:]:
        points += [home, *ring, ring[0]]
    if len(rings) > 1:
        points.append(home)
    return points
