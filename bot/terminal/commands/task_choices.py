"""What the options of `stationmaster task create` mean together."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy.orm import Session

from core.datasets.listing import find_dataset, learnable_sets, nothing_to_learn
from core.errors import ConflictError, InvalidInputError
from core.models.listing import find_model
from core.settings import Settings
from core.tasks.hyperparameters import HyperparameterField, parse_fields
from core.vocabulary import Flow, TaskType
from core.wizard.context import StepContext
from core.zoo import presets


def flow_of(given: Flow | None, preset: str, model: str) -> Flow:
    """The flow asked for, or the one that a preset or a model to retrain means.

    Raises:
        InvalidInputError: where they contradict each other.
    """
    meant = Flow.SPECIALIZED if preset else Flow.RETRAINING if model else Flow.GENERAL
    if (preset and model) or (meant != Flow.GENERAL and given not in (None, meant)):
        raise InvalidInputError(
            "--preset belongs to --flow specialized, --model to --flow retraining.", "Give one of the two, and leave --flow out."
        )
    return given or meant


def hyperparameters_of(given: list[str], fields: Mapping[str, HyperparameterField]) -> dict[str, Any]:
    """Typed values of what --set gave.

    Raises:
        InvalidInputError: for what is wrong, of all of it at once, a line each.
    """
    pairs: dict[str, str] = {}
    wrong: list[InvalidInputError] = []
    for item in given:
        key, equals, value = item.partition("=")
        if equals:
            pairs[key.strip()] = value
        else:
            wrong.append(InvalidInputError(f"--set takes key=value; “{item[:60]}” was given.", "For example --set epochs=20."))
    values: dict[str, Any] = {}
    for key, value in pairs.items():
        try:
            values |= parse_fields({key: value}, fields)
        except InvalidInputError as error:
            wrong.append(error)
    if wrong:
        remedies = dict.fromkeys(error.remedy for error in wrong if error.remedy)
        raise InvalidInputError("\n".join(error.what for error in wrong), "\n".join(remedies))
    return values


def task_type_of(
    session: Session, settings: Settings, workspace: str, flow: Flow, given: TaskType | None, preset: str, model: str
) -> TaskType:
    """What is to be learnt: what an application or a model to retrain is for, or what was asked for.

    Raises:
        InvalidInputError: where nothing says it, or two things are said.
        NotFoundError: for a model that there is not.
    """
    if flow == Flow.SPECIALIZED:
        found = presets.find(preset, settings)
        if found is None:
            known = ", ".join(item.slug for item in presets.all_presets(settings))
            raise InvalidInputError(
                f"There is no application “{preset[:60]}”." if preset else "--flow specialized needs --preset.",
                f"There are: {known}." if known else "None is installed here yet.",
            )
        settled = found.task_type
    elif flow == Flow.RETRAINING:
        if not model:
            raise InvalidInputError("--flow retraining needs --model.", "`stationmaster model list` shows all there are.")
        settled = TaskType(find_model(session, workspace, model).task_type)
    elif given is None:
        raise InvalidInputError("--task-type is missing.", "Give one of " + ", ".join(TaskType) + ".")
    else:
        return given
    if given not in (None, settled):
        raise InvalidInputError(f"--task-type {given} does not fit: this is {settled}.", "Leave it out.")
    return settled


def choose_dataset(context: StepContext, name: str, annotation_set: str) -> None:
    """Take up the dataset and the one annotation set of it that fits.

    Raises:
        NotFoundError, ConflictError, InvalidInputError: where there is none, or several would fit.
    """
    dataset = find_dataset(context.session, context.actor.workspace, name)
    if why := nothing_to_learn(dataset, context.task_type):
        raise ConflictError(why, "Choose another dataset or task type.")
    fitting = learnable_sets(dataset, context.task_type)
    matching = [item for item in fitting if annotation_set in (item.id, item.name)] if annotation_set else fitting
    matching = matching or [item for item in fitting if item.kind == annotation_set]
    if len(matching) != 1:
        called = f" “{annotation_set[:60]}”" if annotation_set else ""
        what = f"“{dataset.name}” has {'several annotation sets' if matching else 'no annotation set'}{called} that {'fit' if matching else 'fits'}."
        choices = ", ".join(f"{item.name} ({item.id})" for item in fitting)
        raise InvalidInputError(what, f"Give --annotation-set with one of: {choices}.")
    context.choices.dataset_id, context.choices.annotation_set_id = dataset.id, matching[0].id
    context.forget_dataset()
