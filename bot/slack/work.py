"""Work after the acknowledgement: a few threads, and everything that concerns one conversation in its order."""

import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

logger = logging.getLogger(__name__)

Job = Callable[[], None]
THREADS = 8


class Work:
    """Runs jobs in threads; those submitted under one key one after the other, as they came."""

    def __init__(self, threads: int = THREADS) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="slack-work")
        self._waiting: dict[str, deque[Job]] = {}  # of keys that are being worked on
        self._changed = threading.Condition()
        self._open = 0
        self._closed = False

    def submit(self, key: str, job: Job) -> None:
        """Run `job` when those submitted before it under `key` have ended. After `close` nothing is taken any more."""
        with self._changed:
            if self._closed:
                logger.warning("a job came after the face was stopped and is dropped")
                return
            self._open += 1
            if key in self._waiting:
                self._waiting[key].append(job)
                return
            self._waiting[key] = deque()
            self._pool.submit(self._run, key, job)

    def hold(self) -> None:
        """Something is being done until `let_go`, though it has not been submitted here."""
        with self._changed:
            self._open += 1

    def let_go(self) -> None:
        """What was held is done."""
        with self._changed:
            self._open -= 1
            self._changed.notify_all()

    def settle(self, seconds: float) -> bool:
        """Wait until nothing is left to do; False when something still is after so many seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: self._open == 0, timeout=seconds)

    def close(self, seconds: float = 10) -> None:
        """Take nothing more, and give what was taken some time to end."""
        with self._changed:
            self._closed = True
        if not self.settle(seconds):
            logger.warning("some work was not done when the face was stopped")
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _run(self, key: str, job: Job) -> None:
        try:
            job()
        except Exception:  # the jobs tell people themselves; this keeps their key going
            logger.exception("a job of %s failed", key)
        finally:
            with self._changed:
                self._open -= 1
                following = self._waiting[key].popleft() if self._waiting[key] else None
                if following is None:
                    del self._waiting[key]
                elif not self._closed or self._open:
                    self._pool.submit(self._run, key, following)
                self._changed.notify_all()


class ListenerThreads(ThreadPoolExecutor):
    """Bolt's threads for listeners. What runs in them counts as work that is being done: it has not been submitted yet."""

    def __init__(self, threads: int, work: Work) -> None:
        super().__init__(threads, thread_name_prefix="slack-listener")
        self.work = work

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run `fn` in one of the threads."""
        self.work.hold()
        try:
            running = super().submit(fn, *args, **kwargs)
        except RuntimeError:  # they have been shut down
            self.work.let_go()
            raise
        running.add_done_callback(lambda _: self.work.let_go())
        return running
