"""The pictures of a search beside its model: the scores of all jobs against their hyperparameters, and a population's lineage."""

from core.db.session import Database
from core.db.tables import Task
from core.storage import Storage
from core.tuning.lineage import family
from core.tuning.pictures import lineage_picture, scores_picture
from core.tuning.standings import standings
from core.vocabulary import Tuning


def write_search_pictures(task_id: str, key: str, *, database: Database, storage: Storage) -> dict[str, str]:
    """Draw them into the model folder `key`; returns their storage keys by name, none where the task tried one plan only."""
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
    for name, picture in drawn.items():
        storage.write(f"{key}/{name}.png", picture)
    return {name: f"{key}/{name}.png" for name in drawn}
