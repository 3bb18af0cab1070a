"""Child processes that end when their parent does, however it ends."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
# Looked up once, before any fork: between fork and exec nothing may import or take a lock.
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def start_child(
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    output: IO[bytes] | int | None = None,
    keep_open: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a process that gets SIGTERM when this one dies, also by `kill -9` (on Linux; elsewhere only an orderly end stops it).

    It leads a process group of its own, so that Ctrl-C in the terminal reaches only us and we end it in order. Call this from the
    main thread: the kernel takes the end of the *thread* that forked for the parent's death.

    Raises:
        OSError: when the program cannot be started.
    """
    return subprocess.Popen(  # noqa: S603 (the commands are ours)
        command,
        env=None if environment is None else dict(environment),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        pass_fds=keep_open,
        process_group=0,
        preexec_fn=_die_with(os.getpid()) if _LIBC is not None else None,
    )


def _die_with(parent: int) -> Callable[[], None]:
    def die_with_parent() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)  # type: ignore[union-attr]
        if os.getppid() != parent:  # it died between fork and here
            os._exit(1)

    return die_with_parent


def end_child(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Ask a child to end, wait for it, and kill it when it takes longer than `seconds`."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()
