"""One counter for all presses outside the wizard: `noun:verb` in, reply out."""

from collections.abc import Callable, Mapping

from bot.desk import batch_test, dataset_work, datasets, home, jobs, models, tasks
from bot.desk.office import Office
from bot.desk.reply import Reply, Request, Upload
from core.access import Actor, Place
from core.db.session import Database
from core.errors import InvalidInputError
from core.settings import Settings
from core.storage import Storage

Handler = Callable[[Office, Request], Reply]

HANDLERS: dict[str, Handler] = {
    "home:show": home.show,
    "help:show": home.help_,
    "train:begin": home.begin,
    "tasks:list": tasks.list_,
    "task:show": tasks.show,
    "task:stop": tasks.stop,
    "task:jobs": jobs.jobs,
    "task:curves": jobs.curves,
    "task:hyperparameters": tasks.hyperparameters,
    "task:report": tasks.report,
    "task:rename": tasks.rename,
    "task:delete": tasks.delete,
    "models:list": models.list_,
    "model:show": models.show,
    "model:test": models.test,
    "model:download": models.download,
    "model:export": models.export,
    "model:batch": batch_test.choose,
    "model:test-on": batch_test.run,
    "model:retrain": models.retrain,
    "model:rename": models.rename,
    "model:delete": models.delete,
    "datasets:list": datasets.list_,
    "dataset:show": datasets.show,
    "dataset:import": datasets.import_,
    "dataset:keep": datasets.keep,
    "dataset:drop": datasets.drop,
    "dataset:findings": datasets.findings,
    "dataset:statistics": dataset_work.statistics,
    "dataset:combine": dataset_work.combine,
    "dataset:rename": datasets.rename,
    "dataset:delete": datasets.delete,
}


# Forms whose work goes on for a while and is told in a thread: what speaks against it is known before one is opened.
CHECKS: dict[str, Callable[[Office, Request], object]] = {
    "dataset:import": datasets.check_import,
    "dataset:combine": dataset_work.check_combine,
}


class Desk:
    """Serves every chat from one database. `on_start` wakes the queue once work has been committed."""

    def __init__(self, database: Database, storage: Storage, settings: Settings, on_start: Callable[[], None] = lambda: None) -> None:
        self.office = Office(database, storage, settings, on_start)

    def press(
        self,
        actor: Actor,
        place: Place,
        action: str,
        value: str = "",
        values: Mapping[str, str] | None = None,
        uploads: tuple[Upload, ...] = (),
    ) -> Reply:
        """Do what a press asks for.

        Raises:
            StationmasterError: what cannot be done, to be shown to the presser alone.
        """
        # A form's action carries what it is about: "task:rename ID".
        name, _, about = action.partition(" ")
        handler = HANDLERS.get(name)
        if handler is None:
            raise InvalidInputError("This button is from another version.", "Ask for the list again.")
        return handler(self.office, Request(actor, place, about or value, values or {}, uploads))

    def check(
        self, actor: Actor, place: Place, action: str, value: str, values: Mapping[str, str], uploads: tuple[Upload, ...] = ()
    ) -> None:
        """Look what speaks against a form of `CHECKS`, and do nothing yet. Raises what `press` would."""
        name, _, about = action.partition(" ")
        CHECKS[name](self.office, Request(actor, place, about or value, values, uploads))
