"""From choices to a task: what the wizard's Start and `stationmaster task create` both go through."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from core.datasets.listing import learnable_sets, nothing_to_learn
from core.errors import InvalidInputError, NotFoundError
from core.models.listing import find_model
from core.tasks.creation import NewTask
from core.tasks.hyperparameters import FIELDS, Hyperparameters, TrainingPlan
from core.tuning.budget import JobsChoice, auto_choice
from core.tuning.search import SEARCH_FIELDS, draw, grid, made
from core.vocabulary import DataType, Flow, TaskType, Tuning
from core.wizard.context import StepContext
from core.wizard.draft import Choices, Selection
from core.wizard.review import OPTIMIZERS
from core.zoo import catalogue, weights
from core.zoo.devices import workers_device
from core.zoo.estimates import NOTHING_YET, learn
from core.zoo.evidence import Measurement, best_for
from core.zoo.facts import DatasetFacts, facts_of
from core.zoo.recipes import auto_plan, manual_plan
from core.zoo.recommend import LARGER_NOT_AT_HAND, Suggestion, describe, most_gmacs, recommend
from core.zoo.spec import ModelSpec


def dataset_facts(context: StepContext) -> DatasetFacts:
    """What recipes and recommendations need to know of the chosen dataset.

    Raises:
        InvalidInputError: when no dataset, or none that fits, has been chosen.
    """
    dataset, chosen = context.dataset, context.annotation_set
    if dataset is None:
        raise InvalidInputError("No dataset has been chosen yet.", "Go back and choose one.")
    if why := nothing_to_learn(dataset, context.task_type):
        raise InvalidInputError(why, "Go back and choose another dataset.")
    if chosen is None or chosen not in learnable_sets(dataset, context.task_type):
        raise InvalidInputError(
            f"“{dataset.name}” has no annotations chosen for {context.task_type.title.lower()}.", "Go back and choose them."
        )
    return facts_of(context.session, dataset, chosen)


def suggest(context: StepContext) -> dict[str, Any]:
    """The best suggestion for the choices so far, with its reasons, and what it was made from.

    Where candidates have been measured on these images it is one of them, and it is trained at the image size that it was measured at.
    """
    choices, devices, facts = context.choices, workers_device(context.session), dataset_facts(context)
    experience = learn(context.session, devices)

    if measured := context.evidence:
        limits = [most_gmacs(context.task_type, step, instances=context.tells_instances) for step in range(1, choices.preference + 1)]
        shown = best_for(measured, limits, context.settings)
        spec = catalogue.find_spec(shown.network, shown.pretraining, context.settings)
        best = describe(
            spec,
            context.task_type,
            choices.data_type or DataType.OTHER,
            facts,
            devices,
            image_size=shown.image_size,
            experience=experience,
        )
        return _as_stored(best, [*_measured_reasons(context.task_type, shown, measured), *best.reasons], context, shown.image_size)
    found = recommend(
        context.task_type,
        choices.data_type or DataType.OTHER,
        choices.preference,
        facts,
        devices,
        context.settings,
        instances=context.tells_instances,
        experience=experience,
        pretraining=choices.suggest_pretraining,
    )
    if not found:
        raise InvalidInputError("No network of the zoo fits this task and device.", "Choose one yourself with manual select.")
    return _as_stored(found[0], list(found[0].reasons), context, "auto")


def _as_stored(best: Suggestion, reasons: list[str], context: StepContext, image_size: int | str) -> dict[str, Any]:
    return {
        "network": best.spec.network,
        "pretraining": best.spec.pretraining,
        "reasons": reasons,
        "image_size": image_size,
        "estimated_seconds": round(best.seconds),
        "estimated_memory_bytes": best.memory_bytes,
        "made_for": _made_for(context),
    }


def _measured_reasons(task_type: TaskType, shown: Measurement, measured: list[Measurement]) -> list[str]:
    kind = {
        TaskType.SINGLE_LABEL: "of the images right",
        TaskType.MULTI_LABEL: "mean average precision",
    }.get(task_type, "of the objects and empty places right")
    place = "the best" if shown == measured[0] else "the best that is no larger than you prefer"
    return [
        f"{place} of {len(measured)} candidates measured on your own images",
        f"a linear probe on its frozen features at {shown.image_size} px gets {shown.linear_probe:.1%} {kind}, "
        f"the nearest neighbours {shown.nearest_neighbours:.1%}; the last of them gets {measured[-1].linear_probe:.1%}",
    ]


def _as_trained(context: StepContext, spec: ModelSpec, plans: Sequence[TrainingPlan]) -> dict[str, Any]:
    """The suggestion of the choices, with the size, time and memory of what is really trained where a script gave values of its own."""
    suggestion, plan = context.choices.suggestion, plans[0]
    if not context.choices.overrides_recipe or context.evidence:
        return suggestion
    devices = workers_device(context.session)
    found = describe(
        spec,
        context.task_type,
        context.choices.data_type or DataType.OTHER,
        dataset_facts(context),
        devices,
        image_size=plan.image_size,
        batch_size=plan.batch_size,
        epochs=plan.epochs,
        experience=learn(context.session, devices),
    )
    reasons = list(found.reasons)
    if LARGER_NOT_AT_HAND in suggestion["reasons"]:  # that is known of whoever chose among all of them
        reasons.insert(suggestion["reasons"].index(LARGER_NOT_AT_HAND), LARGER_NOT_AT_HAND)
    if len(plans) > 1:
        reasons[-1] += f", for each of the {len(plans)} training jobs"
    return suggestion | _as_stored(found, reasons, context, plan.image_size)


def suggestion_is_current(context: StepContext) -> bool:
    """Whether the stored suggestion was made for the choices as they are."""
    return bool(context.choices.suggestion) and context.choices.suggestion.get("made_for") == _made_for(context)


def _made_for(context: StepContext) -> list[Any]:
    choices = context.choices
    measured = choices.evidence_job_id if context.evidence else ""
    return [choices.task_type, choices.dataset_id, choices.annotation_set_id, choices.preference, choices.data_type, measured]


def chosen_spec(context: StepContext) -> ModelSpec:
    """The zoo entry that the choices come to, in every flow.

    Raises:
        InvalidInputError: when it does not serve the task type, or its weights may not be used or are not at hand.
    """
    choices = context.choices
    if choices.flow == Flow.SPECIALIZED:
        if context.preset is None:
            raise InvalidInputError("No application has been chosen yet.", "Go back and choose one.")
        spec = context.preset.spec(context.settings)
        network, pretraining = spec.network, catalogue.NONE if choices.from_scratch else spec.pretraining
    elif choices.flow == Flow.RETRAINING:
        if not choices.source_model_id:
            raise InvalidInputError("No model to retrain has been chosen yet.", "Go back and choose one.")
        model = find_model(context.session, context.actor.workspace, choices.source_model_id)
        network, pretraining = model.network, model.pretraining
    elif choices.selection == Selection.AUTO:
        if not suggestion_is_current(context):
            choices.suggestion = suggest(context)
        network, pretraining = choices.suggestion["network"], choices.suggestion["pretraining"]
    else:
        if not choices.network:
            raise InvalidInputError("No network has been chosen yet.", "Go back and choose one.")
        network, pretraining = choices.network, choices.pretraining
    spec = catalogue.find_spec(network, pretraining, context.settings)
    if context.task_type not in spec.task_types:
        raise InvalidInputError(f"{spec.network} cannot be trained for {context.task_type.title.lower()}.", "Choose another network.")
    if spec.instances_only and not context.tells_instances:
        raise InvalidInputError(
            f"{spec.network} needs a mask for each object; the chosen annotations have one for each class.",
            "Choose a network for regions, or annotations of instances.",
        )
    # Retraining starts from the model's own weights: the original ones are not needed.
    if choices.flow != Flow.RETRAINING and spec.pretraining != catalogue.NONE:
        if not weights.allowed(spec, context.settings):
            raise InvalidInputError(
                f"The licence of the weights {spec.name} ({spec.licence or 'unknown'}) is not allowed here.", "Choose another pre-training."
            )
        if not weights.confirmed(spec, context.settings):
            missing = weights.missing(spec, context.settings)
            raise InvalidInputError(missing.what, missing.remedy)
    return spec


def _data_type(context: StepContext) -> DataType:
    """What the images show: as was said, or else as it was when the model that learns on was trained. Only scripts say it outside general training."""
    return _said_data_type(context) or context.heritage.data_type or DataType.OTHER


def _said_data_type(context: StepContext) -> DataType | None:
    choices = context.choices
    return choices.data_type if context.chooses_network or choices.overrides_recipe else None


def _inherited(context: StepContext, entered: Mapping[str, Any]) -> str:
    """What is taken over from the training of the model that learns on, as a sentence; empty where nothing is."""
    heritage = context.heritage
    parts = [f"input size {heritage.image_size} px"] if heritage.image_size and "image_size" not in entered else []
    if heritage.augmentation and not _said_data_type(context) and not set(heritage.augmentation) & set(entered):
        parts.append("random changes")
    source = context.source_model
    return f" As “{source.name}” was trained: {' and '.join(parts)}." if source is not None and parts else ""


def chosen_tuning(context: StepContext) -> Tuning:
    """What was chosen, which is auto unless said. In the wizard, auto select tunes by itself."""
    asked = not context.auto_selected or context.choices.overrides_recipe
    return context.choices.tuning if asked else Tuning.AUTO


def training_jobs(context: StepContext, spec: ModelSpec) -> JobsChoice:
    """The complete plan of each training job; where several are tried, what is searched; and for auto why.

    Raises:
        InvalidInputError: when a grid has more than 48 points, the network does not take the input size, or a value entered with auto has no effect.
    """
    choices, facts = context.choices, dataset_facts(context)
    entered = dict(choices.hyperparameters)
    seed = int(entered.get("seed", FIELDS["seed"].default))
    tuning = chosen_tuning(context)
    learns_on = choices.flow == Flow.RETRAINING
    if tuning == Tuning.AUTO:
        # In the wizard auto asks for nothing; values given in a script with auto overrule the recipe one by one.
        device = workers_device(context.session)
        own = context.preset.recipe if context.preset is not None else {}
        if context.auto_selected and suggestion_is_current(context):  # of candidates measured on these images, the size that showed best
            own = own | {"image_size": choices.suggestion.get("image_size", "auto")}
        if context.heritage.image_size:
            own = own | {"image_size": context.heritage.image_size}
        if not _said_data_type(context):
            own = own | dict(context.heritage.augmentation)
        overrides, data_type = entered if choices.overrides_recipe else {}, _data_type(context)
        recipe = auto_plan(
            spec,
            context.task_type,
            facts,
            {**own, **overrides},
            seed=seed,
            data_type=data_type,
            device=device.kind,
            learns_on=learns_on,
        )
        if choices.overrides_recipe:
            _require_effect(entered, recipe, spec)
        budget = context.settings.auto_gpu_hours
        taken = auto_choice(recipe, spec, facts, device, budget, learn(context.session, device) if budget > 0 else NOTHING_YET)
        why = taken.why + _inherited(context, overrides)
        return replace(taken, why=why, search=replace(taken.search, why=why) if taken.search else None)
    if tuning == Tuning.MANUAL:
        return JobsChoice([manual_plan(spec, facts, Hyperparameters(**entered), learns_on=learns_on)], None, "")
    given = choices.search.get(tuning, {})
    search = made(tuning, given)
    if tuning == Tuning.GRID:
        tried = grid(search.values)
    else:
        tried = draw(search.ranges, int(given.get("jobs", SEARCH_FIELDS[tuning]["jobs"].default)), seed)
    if tuning == Tuning.POPULATION:
        # A member that falls behind copies a better one: none is stopped early.
        entered["early_stop"] = False
    return JobsChoice(
        [manual_plan(spec, facts, Hyperparameters(**{**entered, **values}), learns_on=learns_on) for values in tried], search, ""
    )


def _in_force(choices: Choices, tuning: Tuning) -> dict[str, Any]:
    """What was entered and is trained by. Of what a person typed for another tuning before choosing auto that is the seed alone."""
    if tuning != Tuning.AUTO or choices.overrides_recipe:
        return choices.hyperparameters
    return {name: value for name, value in choices.hyperparameters.items() if name == "seed"}


def _require_effect(entered: Mapping[str, Any], recipe: TrainingPlan, spec: ModelSpec) -> None:
    """Refuse a momentum that somebody has `entered` and the recipe's optimizer does not have: it would be shown as set, and do nothing."""
    if "momentum" in entered and recipe.optimizer != "sgd":
        field = FIELDS["momentum"]
        raise InvalidInputError(
            f"{field.label} ({field.name}): tuning auto trains {spec.network} by {OPTIMIZERS[recipe.optimizer]}, which has none; "
            f"“{field.write(entered['momentum'])}” was given.",
            "Leave it out, or choose manual tuning, which trains by SGD.",
        )


def compose(context: StepContext) -> NewTask:
    """The task that the choices come to; draft and place are the caller's to add.

    Raises:
        InvalidInputError: naming the first thing that is missing or does not fit.
    """
    choices = context.choices
    dataset_facts(context)  # asks for a dataset first
    if context.class_mismatch:
        raise InvalidInputError(context.class_mismatch)
    if not choices.name:
        raise InvalidInputError("The task has no name yet.", "Give it one.")
    if context.choices.source_model_id and choices.flow == Flow.RETRAINING:
        _require_model(context)
    spec = chosen_spec(context)
    jobs = training_jobs(context, spec)
    tuning = chosen_tuning(context)
    return NewTask(
        workspace=context.actor.workspace,
        person=context.actor.person,
        person_name=context.actor.name,
        name=choices.name,
        description=choices.description,
        model_name=choices.model_name or choices.name,
        flow=choices.flow or Flow.GENERAL,
        preset=choices.preset if choices.flow == Flow.SPECIALIZED else "",
        source_model_id=choices.source_model_id if choices.flow == Flow.RETRAINING else "",
        task_type=context.task_type,
        dataset_id=choices.dataset_id,
        annotation_set_id=choices.annotation_set_id,
        network=spec.network,
        pretraining=spec.pretraining,
        suggestion={
            **(_as_trained(context, spec, jobs.plans) if context.auto_selected else {}),
            "data_type": context.preset.data_type if context.preset is not None else _data_type(context),
        },
        tuning=tuning,
        settings={**_in_force(choices, tuning), **choices.search.get(tuning, {})},
        search=jobs.search.to_json() if jobs.search else {"why": jobs.why} if jobs.why else {},
        seed=jobs.plans[0].seed,
        plans=jobs.plans,
    )


def _require_model(context: StepContext) -> None:
    try:
        find_model(context.session, context.actor.workspace, context.choices.source_model_id)
    except NotFoundError as error:
        raise InvalidInputError("The model to retrain has been deleted.", "Go back and choose another.") from error
