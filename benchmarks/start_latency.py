"""From Start to the first training step on the digits, with a worker that is up. Prints one line of JSON; exit code 1 above the limit.

    python benchmarks/start_latency.py [--rounds 3]

Start is the transaction that makes the task; the first step is told by the worker's first progress event. `first_s` decodes the
images, later rounds find them in the host's cache. The network has no pre-trained weights, so that nothing is fetched.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LIMIT_SECONDS = 3.0


def measure(rounds: int, network: str, pretraining: str) -> dict[str, Any]:
    """Seconds from Start to the first step, round by round."""
    sys.path.insert(0, str(ROOT))
    from sqlalchemy import select

    from bot.terminal.embedded_valkey import EmbeddedValkey
    from core.access import Actor
    from core.datasets.importing import import_dataset
    from core.datasets.samples import write_sample
    from core.db.migrate import upgrade
    from core.db.session import Database
    from core.db.tables import Dataset, Event, Task
    from core.queue import connect, worker_count
    from core.settings import Settings
    from core.storage import Storage
    from core.tasks.creation import NewTask, create_task
    from core.tasks.dispatcher import nudge
    from core.tasks.hyperparameters import TrainingPlan
    from core.tasks.lifecycle import stop_task
    from core.tasks.states import State
    from core.vocabulary import TaskType

    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"STATIONMASTER_HOME": f"{folder}/home", "STATIONMASTER_LOG_LEVEL": "WARNING", "STATIONMASTER_OFFLINE": "1"}
        settings = Settings()
        database, storage = Database.of(settings), Storage.of(settings)
        upgrade(database)
        source = write_sample("digits", Path(folder) / "digits")
        made = import_dataset(database, storage, settings, workspace="default", person="benchmark", name="digits", source=str(source))
        with database.read() as session:
            dataset = session.get_one(Dataset, made.id)
            annotations = dataset.annotation_sets[0].id
        valkey = EmbeddedValkey(settings)
        valkey.start()
        worker = subprocess.Popen([sys.executable, "-m", "worker", "--kind", "gpu"], cwd=ROOT)
        try:
            while worker_count(connect(settings), settings, "gpu") == 0:
                if worker.poll() is not None:
                    raise SystemExit("the worker has ended by itself: see above")
                time.sleep(0.1)
            time.sleep(1)

            def once() -> float:
                new = NewTask(
                    workspace="default",
                    person="benchmark",
                    name="digits",
                    task_type=TaskType.SINGLE_LABEL,
                    dataset_id=dataset.id,
                    annotation_set_id=annotations,
                    network=network,
                    pretraining=pretraining,
                    plans=[TrainingPlan(image_size=64, epochs=5)],
                )
                began = time.time()
                with database.write() as session:
                    task = create_task(session, settings, new)
                nudge(database, settings)
                first = None
                while first is None:
                    with database.read() as session:
                        first = session.scalars(select(Event).where(Event.task_id == task.id, Event.kind == "progress")).first()
                        if State(session.get_one(Task, task.id).state).ended:
                            raise SystemExit(session.get_one(Task, task.id).error)
                    time.sleep(0.02)
                with database.write() as session:
                    stop_task(session, Actor("default", "benchmark", "benchmark"), session.get_one(Task, task.id), "discard")
                while True:
                    with database.read() as session:
                        if State(session.get_one(Task, task.id).state).ended:
                            return first.created_at.timestamp() - began
                    time.sleep(0.05)

            seconds = [once() for _ in range(rounds)]
        finally:
            worker.terminate()
            worker.wait()
            valkey.stop()
    return {
        "benchmark": "start_latency",
        "network": f"{network}.{pretraining}",
        "first_s": round(seconds[0], 2),
        "later_s": round(statistics.median(seconds[1:]), 2) if seconds[1:] else None,
        "limit_s": LIMIT_SECONDS,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--network", default="tf_efficientnet_lite0")
    parser.add_argument("--pretraining", default="none")
    given = parser.parse_args()
    result = measure(given.rounds, given.network, given.pretraining)
    print(json.dumps(result))
    sys.exit(result["first_s"] > LIMIT_SECONDS)
