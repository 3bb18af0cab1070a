"""`python -m worker.rank JOB GENERATION`: one process of several at one job, started by torchrun's agent (see `worker.ranks`)."""

import json
import logging
import math
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from core.db.session import Database
from core.errors import StationmasterError, UnavailableError
from core.events import Progress
from core.settings import Settings
from core.storage import Storage
from core.tasks.lifecycle import Claim, FencedError, asked, remark
from worker.database_link import LOOK_SECONDS
from worker.engine.errors import DivergedError, OutOfMemoryError
from worker.engine.team import Several, TeamLostError
from worker.engine.training import train
from worker.failures import explain
from worker.jobs import carry_out, load_training_job
from worker.link import Ask
from worker.pausing import PAUSE
from worker.process import die_with_parent
from worker.ranks import AGENT, CLAIM_FILE, FOLDER, GAVE_UP_FILE, LACKS_MEMORY, LEADER_FILE, PAUSE_FILE, PAUSE_SIGNAL
from worker.waiting import AGAIN_SECONDS, HURRY_SECONDS, is_database_away, may_pass
from worker.workplace import Workplace

logger = logging.getLogger(__name__)

LEADER_SECONDS = HURRY_SECONDS + AGAIN_SECONDS  # that the leader may take to write the last epoch before a stop


class FollowersLink:
    """The link of those who do not lead: what is wanted they hear from the leader, and it tells what is to be told.

    While they wait for the storage the leader waits for them and hears nothing: that is told, and ended, without it.
    """

    def __init__(self, database: Database, job_id: str, generation: int, folder: Path) -> None:
        """`folder` is the team's, where `worker.ranks` leaves word."""
        self._database, self._holder, self._folder = database, (job_id, generation), folder
        self._looking = threading.Lock()
        self._looked, self._stopped_at = float("-inf"), math.inf

    def asked(self) -> Ask:
        """See `JobLink`."""
        return Ask.GO_ON

    def pausing(self) -> bool:
        """See `JobLink`. Also whether a stop was asked for so long ago that the leader, which may end in good order, cannot do so."""
        if (self._folder / PAUSE_FILE).exists():
            return True
        with self._looking:
            if time.monotonic() - self._looked >= LOOK_SECONDS:
                self._looked = time.monotonic()
                try:
                    with self._database.read() as session:
                        stopped = bool(asked(session, *self._holder))
                except UnavailableError:
                    stopped = False
                if stopped:
                    self._stopped_at = min(self._stopped_at, time.monotonic())
        return time.monotonic() - self._stopped_at > LEADER_SECONDS

    def progress(self, event: Progress) -> None:
        """See `JobLink`."""

    def epoch_ended(
        self, number: int, values: dict[str, Any], *, score: float, metrics: dict[str, Any], is_best: bool, event: Progress
    ) -> None:
        """See `JobLink`."""

    def noticed(self, message: str, remedy: str = "") -> None:
        """See `JobLink`."""

    def waits(self, message: str, remedy: str) -> None:
        """See `JobLink`."""
        try:
            with self._database.write() as session:
                remark(session, *self._holder, message, remedy)
        except UnavailableError as error:
            logger.warning("untold, as the database is away: %s (%s)", message, error)


def main(job_id: str, generation: int) -> int:
    """Do this process' part; the exit code is 0 when all parted in good order; any other tells the agent to end the others."""
    die_with_parent(int(os.environ[AGENT]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the worker hears it, and passes on what is to be done
    signal.signal(PAUSE_SIGNAL, lambda *_: PAUSE.set())
    settings = Settings()
    logging.basicConfig(level=settings.log_level, format=f"%(asctime)s %(levelname)s %(name)s (of {os.environ['RANK']}): %(message)s")
    database = Database.of(settings)
    workplace = Workplace(settings, database, Storage.of(settings))
    try:
        return _take_part(workplace, Several(), job_id, generation)
    except (TeamLostError, FencedError) as error:  # nothing to record: it is another that failed, or nobody
        logger.warning("job %s, generation %d: given up: %s", job_id, generation, error)
        return LACKS_MEMORY if isinstance(error, TeamLostError) and error.out_of_memory else 1


def give_up(folder: Path, error: Exception) -> None:
    """Leave word, in the team's folder, of what a person can mend: it ends the training, and is no loss of a worker."""
    part = folder / f"{GAVE_UP_FILE}.{os.getpid()}"
    part.write_text(json.dumps(explain(error, "training")))
    part.rename(folder / GAVE_UP_FILE)


def _take_part(workplace: Workplace, team: Several, job_id: str, generation: int) -> int:
    settings, database = workplace.settings, workplace.database
    folder = Path(os.environ[FOLDER])
    if team.leads:
        claim = Claim(**json.loads((folder / CLAIM_FILE).read_text()))
        (folder / "own").write_text(str(os.getpid()))
        (folder / "own").rename(folder / LEADER_FILE)
        carry_out(workplace, claim, job_id, generation, team)
    else:
        with database.read() as session:
            job = load_training_job(session, settings, job_id, generation)
        link = FollowersLink(database, job_id, generation, folder)
        try:
            train(job, database=database, storage=workplace.storage, settings=settings, link=link, team=team)
        except (DivergedError, OutOfMemoryError) as error:
            # All come to this at the same step. A fault of this process would have the agent end the leader, which may not have recorded it yet.
            logger.info("job %s, generation %d: %s", job_id, generation, error)
            return 0
        except Exception as error:
            if not is_database_away(error) and (isinstance(error, StationmasterError) or may_pass(error)):
                give_up(folder, error)
            raise
    return 0 if team.parted else 1


if __name__ == "__main__":
    from torch.distributed.elastic.multiprocessing.errors import record

    code = record(main)(sys.argv[1], int(sys.argv[2]))
    logging.shutdown()
    os._exit(code or 0)
