"""A job on several devices: torchrun's agent runs in the work-horse and starts `python -m worker.rank` once per device.

The work-horse claims the job and says that it lives until the first of these processes, which leads, does so. The leader does everything that
a work-horse with one device does. When any of them dies, the agent ends the others, and the job is given up, to go on from its checkpoint;
when the work-horse dies, all die with it.
"""

import dataclasses
import json
import logging
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from core.db.tables import Job
from core.host_limits import out_of_memory_kills
from core.queue import WORK
from core.tasks.journal import ACTIVE
from core.tasks.lifecycle import Claim, asked, fail_job, hand_back, lose_job
from worker.database_link import Bell, DatabaseLink
from worker.pausing import PAUSE
from worker.workplace import Workplace

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

logger = logging.getLogger(__name__)

AGENT = "STATIONMASTER_AGENT"  # the work-horse's process id
FOLDER = "STATIONMASTER_TEAM_FOLDER"  # where the two files lie
CLAIM_FILE = "claim.json"  # what the work-horse has claimed
LEADER_FILE = "leader"  # the leader's process id, once it speaks for the job and can be told to pause
PAUSE_FILE = "pause"  # there once the worker is to end
GAVE_UP_FILE = "gave-up.json"  # what keeps a process that does not lead from going on, and the remedy
PAUSE_SIGNAL = signal.SIGUSR1  # SIGTERM is what the agent ends the others with when one has died
LACKS_MEMORY = 3  # exit code of a process that cannot go on for that reason, where the others cannot be asked to try again
_KILL_AFTER = 5  # seconds: whoever waits in a collective operation does not hear SIGTERM


def launch(workplace: Workplace, claim: Claim, job_id: str, generation: int) -> None:
    """Have one generation of a job done by `devices_per_job` processes, and give it up where one of them is lost."""
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    count = workplace.settings.devices_per_job
    link = DatabaseLink(
        workplace.database,
        workplace.settings,
        claim.task_id,
        job_id,
        generation,
        pause=PAUSE,
        before=claim.device_seconds,
        devices=count,
    )
    link.start()
    kills_before = out_of_memory_kills()
    with tempfile.TemporaryDirectory(prefix="stationmaster-job-") as folder:
        Path(folder, CLAIM_FILE).write_text(json.dumps(dataclasses.asdict(claim)))
        # One host only: nothing need be reachable from outside.
        loopback = "lo" if sys.platform == "linux" else "lo0"
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
        os.environ.setdefault("NCCL_SOCKET_IFNAME", loopback)
        os.environ |= {FOLDER: folder, AGENT: str(os.getpid())}
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=count,
            run_id=f"{job_id}-{generation}",
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",
            max_restarts=0,
            monitor_interval=0.5,
            shutdown_timeout=_KILL_AFTER,
            signals_to_handle="SIGQUIT",  # SIGTERM stays what it is in a work-horse: a wish to pause
            logs_specs=DefaultLogsSpecs(log_dir=folder),
        )
        threading.Thread(target=_hand_over, args=(link, Path(folder, LEADER_FILE)), name="hand over", daemon=True).start()
        try:
            elastic_launch(config, sys.executable)("-m", "worker.rank", job_id, str(generation))
        except ChildFailedError as error:
            out_of_memory = ran_out_of_memory(error.failures.values(), kills_before)
            reason = "memory ran out" if out_of_memory else _reason(error.failures, count)
            logger.warning("job %s, generation %d: %s", job_id, generation, reason)
            word = Path(folder, GAVE_UP_FILE)
            told = json.loads(word.read_text()) if word.exists() else None
            _give_up(workplace, job_id, generation, reason, out_of_memory=out_of_memory, told=told)
        finally:
            link.stop()


def _reason(failures: "dict[int, ProcessFailure]", count: int) -> str:
    """In words why the team is lost: whoever was killed comes first, then whoever failed; the others only noticed."""

    def first(item: "tuple[int, ProcessFailure]") -> tuple[bool, bool, int]:
        rank, failure = item
        killed = failure.exitcode < 0 and failure.exitcode != -signal.SIGTERM
        return not killed, not failure.error_file_data.get("message"), rank

    rank, failure = min(failures.items(), key=first)
    who = f"the process of device {rank + 1} of {count}"
    if failure.exitcode < 0:
        return f"{who} was ended by {failure.signal_name()}"
    recorded = failure.error_file_data.get("message")
    said = recorded.get("message", "") if isinstance(recorded, dict) else failure.message
    return f"{who} failed: {' '.join(str(said).split())[:200]}"


def ran_out_of_memory(failures: "Iterable[ProcessFailure]", kills_before: int | None) -> bool:
    """Whether one of these processes said that memory ran out, or the system has killed it and more than `kills_before` for that reason."""
    codes = {failure.exitcode for failure in failures}
    now = out_of_memory_kills()
    killed = -signal.SIGKILL in codes and kills_before is not None and now is not None and now > kills_before
    return LACKS_MEMORY in codes or killed


def _hand_over(link: DatabaseLink, leader: Path) -> None:
    """Fall silent once the leader speaks; then tell it to pause when this process is told to."""
    while not leader.exists():
        time.sleep(0.1)
    link.stop()
    PAUSE.wait()
    try:
        leader.with_name(PAUSE_FILE).touch()
        os.kill(int(leader.read_text()), PAUSE_SIGNAL)
    except (ProcessLookupError, FileNotFoundError):  # it has just ended
        return


def _give_up(
    workplace: Workplace, job_id: str, generation: int, reason: str, *, out_of_memory: bool, told: tuple[str, str] | None = None
) -> None:
    """Let go of a job whose team has ended before it: as one that is lost, or where it was `told` what is wrong and the remedy, as one that fails."""
    with workplace.database.write() as session:
        job = session.get(Job, job_id)
        if job is None or job.generation != generation or job.state not in ACTIVE:
            return  # it ended in the database as it should, and only the parting did not go well
        if told is None:
            lose_job(session, workplace.settings, job_id, generation, reason, out_of_memory=out_of_memory)
        elif job.ending or PAUSE.is_set() or asked(session, job_id, generation) or fail_job(session, job_id, generation, *told) is not None:
            hand_back(session, job_id, generation)  # where only the model is left to be made, for that
    Bell(workplace.settings).ring(WORK)
