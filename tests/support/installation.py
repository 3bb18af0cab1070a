"""An installation as an operator has it: a home of its own, and the command line in it, as processes."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from core.errors import UnavailableError
from core.queue import QUEUES, connect, worker_count
from core.settings import Settings


class Installation:
    """A home of its own, and the command line in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("STATIONMASTER_")}
        self.environment = {**kept, "STATIONMASTER_HOME": str(self.home), "CUDA_VISIBLE_DEVICES": ""}
        self.started: list[subprocess.Popen[str]] = []

    def run(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """One command, to its end."""
        extra = {f"STATIONMASTER_{name.upper()}": value for name, value in settings.items()}
        command = [sys.executable, "-m", "bot", *arguments]
        return subprocess.run(command, cwd=self.folder, env={**self.environment, **extra}, capture_output=True, text=True, timeout=120)

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """A command that goes on; what it says goes to `said`."""
        with (self.folder / "said").open("a") as said:
            command = [sys.executable, "-m", "bot", *arguments]
            self.started.append(subprocess.Popen(command, cwd=self.folder, env=self.environment, stdout=said, stderr=said, text=True))
        return self.started[-1]

    def said(self) -> str:
        """All that was said by what was started."""
        return (self.folder / "said").read_text()

    def workers(self) -> dict[str, int]:
        """How many live workers the queue knows of, by kind; of none while there is no queue yet."""
        settings = Settings(home=self.home)
        try:
            redis = connect(settings)
        except UnavailableError:
            return {}
        try:
            return {queue: worker_count(redis, settings, queue) for queue in QUEUES}
        finally:
            redis.close()

    def doctor(self, **settings: str) -> tuple[int, dict[str, list[dict[str, Any]]]]:
        """Exit code and findings by part."""
        answer = self.run("doctor", "--json", **settings)
        assert "Traceback" not in answer.stderr
        parts: dict[str, list[dict[str, Any]]] = {}
        for finding in json.loads(answer.stdout):
            parts.setdefault(finding["part"], []).append(finding)
        return answer.returncode, parts

    def end(self) -> None:
        """End whatever still runs, in order."""
        for process in self.started:
            if process.poll() is None:
                process.terminate()
                process.wait(120)


def wait_until(condition: Callable[[], object], seconds: float = 250) -> None:
    """Wait for `condition()` to become true.

    Raises:
        AssertionError: when it does not within `seconds`.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.1)
