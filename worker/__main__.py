"""`python -m worker --kind gpu|light`: one worker process. Ends on SIGTERM or Ctrl-C, its job checkpointed and handed back."""

import argparse
import json
import logging
import os
import sys

from pydantic import ValidationError

from core.db.migrate import ensure_current
from core.db.session import Database
from core.errors import StationmasterError
from core.queue import QUEUES
from core.settings import Settings
from worker.health import alive_here, devices
from worker.process import run

QUEUE_SECONDS = 60.0


def main(arguments: list[str] | None = None) -> int:
    """Run a worker; the exit code is 0 when it was told to end, 1 when it could not start or go on, 2 for wrong use."""
    parser = argparse.ArgumentParser(prog="python -m worker", description="One worker of Stationmaster, on one queue.")
    parser.add_argument("--kind", choices=QUEUES, default="gpu", help="gpu: trainings; light: predictions, imports and the like")
    parser.add_argument("--queue-seconds", type=float, default=QUEUE_SECONDS, help="how long to wait for the queue's server at the start")
    asked = parser.add_mutually_exclusive_group()
    asked.add_argument("--devices", action="store_true", help="name the devices of this host as JSON, and end")
    asked.add_argument("--alive", action="store_true", help="end with 0 if a worker of that kind is alive on this host, else with 1")
    given = parser.parse_args(arguments)
    try:
        settings = Settings()
    except ValidationError as error:
        faults = "; ".join(f"STATIONMASTER_{str(item['loc'][0]).upper()}: {item['msg']}" for item in error.errors())
        return _refuse(f"Settings cannot be used. {faults}.", 2)
    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if settings.log_level != "DEBUG":
        for noisy in ("rq.worker", "rq.job", "rq.queue"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        if given.devices:
            sys.stdout.write(json.dumps(devices()) + "\n")
            return 0
        if given.alive:
            return 0 if alive_here(settings, given.kind) else 1
        database = Database.of(settings)
        ensure_current(database)
        return run(settings, database, given.kind, queue_seconds=given.queue_seconds)
    except StationmasterError as error:
        return _refuse(str(error), 1)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("core", "worker"):
            raise
        return _refuse(
            f"The worker's libraries are not installed ({error.name}). Install them with `pip install 'stationmaster[worker]'`.", 1
        )


def _refuse(message: str, code: int) -> int:
    sys.stderr.write(f"The worker cannot start: {message}\n")
    return code


if __name__ == "__main__":
    code = main()
    # Everything is closed by now; the interpreter would only spend seconds on tidying the libraries' modules.
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
