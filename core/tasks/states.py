"""States of tasks and jobs, and which may follow which."""

from enum import StrEnum


class State(StrEnum):
    """State of a task, and of each of its jobs."""

    WAITING = "waiting"
    RUNNING = "running"
    STOPPING = "stopping"  # asked to stop; true until the worker has let go
    FINISHED = "finished"
    STOPPED = "stopped"
    ERROR = "error"

    @property
    def ended(self) -> bool:
        """Whether nothing follows."""
        return self in ENDED


ENDED = frozenset({State.FINISHED, State.STOPPED, State.ERROR})

# A lost job goes back to waiting, also a stopping one where its best model has yet to be made; a waiting job that is stopped never ran.
# A waiting task is stopping where it was lost in mid-training and is stopped to keep its best model: a worker has to make that.
FOLLOWERS: dict[State, frozenset[State]] = {
    State.WAITING: frozenset({State.RUNNING, State.STOPPING, State.STOPPED, State.ERROR}),
    State.RUNNING: frozenset({State.WAITING, State.STOPPING, State.FINISHED, State.STOPPED, State.ERROR}),
    State.STOPPING: frozenset({State.WAITING, State.STOPPED, State.FINISHED, State.ERROR}),
    State.FINISHED: frozenset(),
    State.STOPPED: frozenset(),
    State.ERROR: frozenset(),
}
