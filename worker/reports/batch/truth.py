"""The truth of a dataset in the classes of a model, which are taken by their names. What the model does not know is left out, and said."""

from collections.abc import Sequence
from dataclasses import replace

from core.datasets.listing import annotation_sets_for
from core.datasets.records import Record
from core.db.tables import AnnotationSet, Dataset
from core.errors import InvalidInputError
from core.names import first_of
from core.vocabulary import AnnotationKind
from worker.reports.inference import LoadedModel

SHOWN_CLASSES = 10  # in a refusal


def choose_annotations(dataset: Dataset, annotation_set_id: str, model: LoadedModel) -> AnnotationSet:
    """The annotation set of that id, or the first one that fits where the id is empty.

    Raises:
        InvalidInputError: when it does not fit the model, or none does.
    """
    fitting = annotation_sets_for(dataset, model.task_type)
    if model.gives_instances:
        fitting = [one for one in fitting if one.kind == AnnotationKind.INSTANCES]
    found = next((one for one in fitting if annotation_set_id in ("", one.id, one.name)), None)
    if found is None:
        names = ", ".join(f"“{one.name}”" for one in fitting)
        raise InvalidInputError(
            f"“{dataset.name}” has no such annotations for {model.task_type.title.lower()}"
            f"{' with a mask for each object' if model.gives_instances else ''}.",
            f"It has {names}." if names else "Choose a dataset with the truth for this kind of model.",
        )
    return found


def require_shared_class(dataset: Dataset, classes: Sequence[str], model: LoadedModel) -> None:
    """Refuse a dataset of other `classes` only: its images would count as showing nothing, and every number would be nought.

    Raises:
        InvalidInputError: naming some classes of both.
    """
    if set(classes).isdisjoint(model.classes):
        raise InvalidInputError(
            f"“{dataset.name}” shares no class with “{model.card['name']}”: it has {first_of(classes, SHOWN_CLASSES)}; "
            f"the model knows {first_of(model.classes, SHOWN_CLASSES)}.",
            "Choose a dataset with classes of the model; their names must be the same, to the letter.",
        )


def in_the_model_s_classes(
    records: Sequence[Record], kind: AnnotationKind, classes: Sequence[str], wanted: Sequence[str]
) -> tuple[list[Record], list[str]]:
    """Records with class numbers of the model instead of the dataset's, and the names it does not know that some image shows.

    Images whose only label is unknown are left out; an image without objects, or without labels of several, stays.
    """
    number_of = {name: number for number, name in enumerate(wanted)}
    to = [number_of.get(name) for name in classes]
    kept: list[Record] = []
    unknown: set[int] = set()

    def known(number: int) -> bool:
        if to[number] is None:
            unknown.add(number)
        return to[number] is not None

    for record in records:
        value = record.value
        if kind is AnnotationKind.SINGLE_LABEL:
            if not known(int(value["label"])):
                continue
            value = {"label": to[int(value["label"])]}
        elif kind is AnnotationKind.MULTI_LABEL:
            value = {"labels": [to[int(label)] for label in value["labels"] if known(int(label))]}
        else:
            name = {AnnotationKind.BOXES: "boxes", AnnotationKind.INSTANCES: "objects", AnnotationKind.REGIONS: "masks"}[kind]
            shown = [known(int(item[0])) for item in value[name]]
            renamed = {name: [[to[int(item[0])], *item[1:]] for item, there in zip(value[name], shown, strict=True) if there]}
            if "areas" in value:
                renamed["areas"] = [area for area, there in zip(value["areas"], shown, strict=True) if there]
            if "ignored" in value and kind is AnnotationKind.REGIONS:
                renamed["ignored"] = value["ignored"]
            elif "ignored" in value:
                renamed["ignored"] = [[to[int(item[0])], *item[1:]] for item in value["ignored"] if to[int(item[0])] is not None]
            value = renamed
        kept.append(replace(record, value=value))
    return kept, [classes[number] for number in sorted(unknown)]
