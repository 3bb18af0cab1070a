"""Workers that really work, as processes, for the conversations of a module: they take their time to start."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from subprocess import Popen

from bot.terminal.embedded_valkey import EmbeddedValkey
from core.settings import Settings


@contextmanager
def engine_room(settings: Settings) -> Iterator[None]:
    """Valkey, and a worker of each kind."""
    valkey = EmbeddedValkey(settings)
    valkey.start()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("STATIONMASTER_")}
    environment = kept | {"STATIONMASTER_HOME": str(settings.home), "STATIONMASTER_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    workers = [Popen([sys.executable, "-m", "worker", "--kind", kind], env=environment) for kind in ("gpu", "light")]
    try:
        yield
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.wait(60)
        valkey.stop()
