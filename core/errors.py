"""The errors a person may meet. Each says what is wrong and how to mend it; the faces print exactly that."""


class StationmasterError(Exception):
    """Base of every error that is meant to be read by a person.

    `what` says what is wrong and where; `remedy` says how to mend it or how to go on.
    """

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.what} {self.remedy}".strip()


class NotFoundError(StationmasterError):
    """Nothing of that name or id in this workspace."""


class NotAllowedError(StationmasterError):
    """The actor may not do this."""


class ConflictError(StationmasterError):
    """The thing is in a state that does not allow this: in use, taken name, already ended."""


class InvalidInputError(StationmasterError):
    """What was given is not acceptable; for typed fields see `core.tasks.hyperparameters.FieldError`."""


class BadDataError(StationmasterError):
    """The data themselves are unusable: nothing readable, wrong format, damaged."""


class UnavailableError(StationmasterError):
    """Something outside is away: database, queue, disk space, weights."""
