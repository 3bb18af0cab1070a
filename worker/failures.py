"""What a person is told when a job fails. The trace goes to the log, never to them."""

import errno
import logging

from core.errors import StationmasterError

logger = logging.getLogger(__name__)


def explain(error: BaseException, doing: str) -> tuple[str, str]:
    """What is wrong and what to do about it; `doing` is a noun such as `training`. Logs what the words leave out."""
    if isinstance(error, StationmasterError):
        # What a person can mend needs no trace; whoever looks for one asks for DEBUG.
        logger.info("the %s failed: %s", doing, error, exc_info=error if logger.isEnabledFor(logging.DEBUG) else None)
        return error.what, error.remedy
    logger.error("the %s failed", doing, exc_info=error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "There is no space left on the worker's disk.", "Free some space, then start it again."
    if isinstance(error, FileNotFoundError):
        name = str(error.filename or (error.args[-1] if error.args else ""))[-200:]
        return f"A file that the {doing} needs is gone: {name}.", "Restore it, or import the dataset again; then start it again."
    if isinstance(error, PermissionError):
        return f"The worker may not use a file: {str(error.filename)[-200:]}.", "Check the owner of the data folder, then start it again."
    if isinstance(error, MemoryError):
        return "The worker's memory ran out.", "Try a smaller batch size, input size or dataset."
    return f"The {doing} ended unexpectedly ({type(error).__name__}).", "The worker's log has the details."
