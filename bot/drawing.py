"""What screens look like in every chat: the marks of the step bar, bars of progress, and which buttons are the way on."""

MARKS = {"done": "●", "current": "◉", "ahead": "○"}
NAVIGATION = frozenset({"start", "next", "back", "cancel"})
BAR_CELLS = 20


def bar(fraction: float) -> str:
    """A bar of twenty cells; what lies outside 0–1 counts as its end."""
    full = round(BAR_CELLS * min(1.0, max(0.0, fraction)))
    return "█" * full + "░" * (BAR_CELLS - full)
