"""The pictures of a search beside its model: the scores of all jobs against their hyperparameters, and a population's lineage."""

from core.db.session import Database
from core.db.tables import Task
from core.tuning.lineage import family
from core.tuning.pictures import lineage_picture, scores_picture
from core.tuning.standings import standings
from core.vocabulary import Tuning


def search_pictures(task_id: str, database: Database) -> dict[str, bytes]:
    """Them by name, as PNG; none where the task tried one plan only."""
    with database.read() as session:
        task = session.get(Task, task_id)
        tuning = task.search.get("tuning") if task is not None else None
        if task is None or not tuning:
            return {}
        jobs = standings(session, task)
        relations = family(session, task_id, jobs.best)
    drawn = {"scores": scores_picture(jobs)}
    if tuning == Tuning.POPULATION:
        drawn["lineage"] = lineage_picture(jobs, relations)
    return drawn
