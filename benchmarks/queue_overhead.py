"""What a training job costs beyond plain RQ: a task of 48 jobs that each do nothing, beside 48 plain RQ jobs that do nothing.

    python benchmarks/queue_overhead.py [--jobs 48] [--rounds 5]

Both are taken by one forking worker on a real Valkey whose parent has imported torch. Ours goes the whole way: outbox, dispatch, claim,
heartbeat thread, events, end, and the model row of the last job; only the training itself returns at once. Prints one line of JSON.
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


def plain_nothing() -> None:
    """A plain RQ job."""


def run_worker() -> None:
    """In the worker's process: the project's own worker, whose trainings do nothing."""
    import worker.jobs
    from worker.__main__ import main
    from worker.link import Ask, TrainingResult

    def train(*_: Any, **__: Any) -> TrainingResult:
        return TrainingResult(Ask.GO_ON, 0.5, {"accuracy": 0.5})

    def write_model(_job: Any, _result: Any, key: str, **about: Any) -> dict[str, str]:
        about["storage"].write(f"{key}/model.safetensors", b"")
        return {}

    worker.jobs.train, worker.jobs.write_model = train, write_model  # type: ignore[assignment]
    os._exit(main(["--kind", "gpu"]))


def run_plain_worker(socket: str) -> None:
    """In the worker's process: RQ's own worker, as warm as ours."""
    from redis import Redis
    from rq import Queue, Worker
    from rq.serializers import JSONSerializer

    from worker.process import warm_up

    warm_up()
    connection = Redis(unix_socket_path=socket)
    queue = Queue("plain", connection=connection, serializer=JSONSerializer)
    Worker([queue], connection=connection, serializer=JSONSerializer).work(logging_level="WARNING")
    os._exit(0)


def measure(jobs: int, rounds: int) -> dict[str, Any]:
    """Seconds per job of both."""
    sys.path.insert(0, str(ROOT))
    from rq import Queue
    from rq.serializers import JSONSerializer

    from bot.terminal.embedded_valkey import EmbeddedValkey
    from core.db.migrate import upgrade
    from core.db.session import Database
    from core.db.tables import AnnotationSet, Dataset, Task
    from core.queue import connect, valkey_socket
    from core.settings import Settings
    from core.tasks.creation import NewTask, create_task
    from core.tasks.dispatcher import nudge
    from core.tasks.hyperparameters import TrainingPlan
    from core.tasks.states import State
    from core.vocabulary import TaskType

    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"STATIONMASTER_HOME": folder, "STATIONMASTER_LOG_LEVEL": "WARNING", "PYTHONPATH": str(ROOT)}
        settings = Settings()
        database = Database.of(settings)
        upgrade(database)
        valkey = EmbeddedValkey(settings)
        valkey.start()
        with database.write() as session:
            dataset = Dataset(workspace="default", name="none", state="ready", created_by="benchmark")
            dataset.annotation_sets = [
                AnnotationSet(position=0, name="a", kind="single-label", classes=["a", "b"], class_counts=[1, 1], image_count=2)
            ]
            session.add(dataset)

        workers: list[subprocess.Popen[bytes]] = []

        def must_live() -> None:
            if any(process.poll() is not None for process in workers):
                raise SystemExit("a worker has ended by itself: see above")

        def ours(count: int) -> float:
            began = time.perf_counter()
            new = NewTask(
                workspace="default",
                person="benchmark",
                name="nothing",
                task_type=TaskType.SINGLE_LABEL,
                dataset_id=dataset.id,
                annotation_set_id=dataset.annotation_sets[0].id,
                network="mobilenetv3_small_050",
                pretraining="none",
                plans=[TrainingPlan()] * count,
            )
            with database.write() as session:
                task = create_task(session, settings, new)
            nudge(database, settings)
            while True:
                with database.read() as session:
                    if State(session.get_one(Task, task.id).state).ended:
                        return (time.perf_counter() - began) / count
                must_live()
                time.sleep(0.01)

        queue = Queue("plain", connection=connect(settings), serializer=JSONSerializer)

        def plain(count: int) -> float:
            began = time.perf_counter()
            entries = [queue.enqueue(plain_nothing, job_timeout=-1) for _ in range(count)]
            while entries[-1].get_status(refresh=True) != "finished":
                must_live()
                time.sleep(0.01)
            return (time.perf_counter() - began) / count

        workers += [
            subprocess.Popen([sys.executable, "-c", "from benchmarks.queue_overhead import run_worker; run_worker()"], cwd=ROOT),
            subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    f"from benchmarks.queue_overhead import run_plain_worker; run_plain_worker({str(valkey_socket(settings))!r})",
                ],
                cwd=ROOT,
            ),
        ]
        try:
            from benchmarks import queue_overhead  # so that the worker finds the job under this name

            globals()["plain_nothing"] = queue_overhead.plain_nothing
            ours(1), plain(1)
            pairs = [(plain(jobs), ours(jobs)) for _ in range(rounds)]
        finally:
            for process in workers:
                process.terminate()
                process.wait()
            valkey.stop()
    plain_ms, ours_ms = (1000 * statistics.median(pair[side] for pair in pairs) for side in (0, 1))
    return {
        "benchmark": "queue_overhead",
        "jobs": jobs,
        "plain_rq_ms_per_job": round(plain_ms, 1),
        "stationmaster_ms_per_job": round(ours_ms, 1),
        "overhead_ms_per_job": round(ours_ms - plain_ms, 1),
        # Other work on the machine only ever adds: the quickest round of each is the closest to what an idle one would show.
        "overhead_ms_quickest_rounds": round(1000 * (min(pair[1] for pair in pairs) - min(pair[0] for pair in pairs)), 1),
        "limit_ms": 50,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    print(json.dumps(measure(given.jobs, given.rounds)))
