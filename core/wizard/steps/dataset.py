"""The dataset: only those that fit the task type, with annotated example pictures once one is chosen."""

from core.datasets.listing import find_dataset, learnable_sets, list_datasets, nothing_to_learn
from core.db.tables import AnnotationSet, Dataset
from core.errors import InvalidInputError
from core.models.listing import class_changes
from core.names import first_of
from core.vocabulary import AnnotationKind
from core.wizard.context import StepContext
from core.wizard.draft import Choices
from core.wizard.screens import Block, Button, Control, Facts, Menu, Option, OptionPage, Picture, PreviewReference, Text, Tone
from core.wizard.steps.step import FIRST_OPTIONS, Input, View, count, matching

PREVIEW_PER_PAGE = 50


class DatasetStep:
    """Which images the model learns from."""

    name = "dataset"
    section = "dataset"
    title = "Which dataset?"

    def applies(self, choices: Choices) -> bool:
        """In every flow."""
        return True

    def prepare(self, context: StepContext) -> None:
        """Drop a dataset that has vanished or does not fit the task type; take the only annotation set there is."""
        choices = context.choices
        fitting = learnable_sets(context.dataset, context.task_type) if context.dataset else []
        if not fitting:
            choices.dataset_id, choices.annotation_set_id = "", ""
            context.forget_dataset()
        elif choices.annotation_set_id not in {item.id for item in fitting}:
            choices.annotation_set_id = fitting[0].id if len(fitting) == 1 else ""

    def show(self, context: StepContext) -> View:
        """The menu; and once a dataset is chosen, its example pictures, classes and counts."""
        dataset, annotation_set = context.dataset, context.annotation_set
        page = self.options(context, "dataset", "", 0, FIRST_OPTIONS)
        if not page.total:
            return View((_nothing_fits(context),), ())
        menu = Menu("choose:dataset", "Dataset", page.options, page.total, context.choices.dataset_id, dataset.name if dataset else "")
        blocks: list[Block] = []
        controls: list[Control] = [menu]
        if dataset is None:
            blocks.append(Text(f"{count(page.total, 'dataset')} can be used for {context.task_type.title.lower()}."))
            return View(tuple(blocks), tuple(controls))
        fitting = learnable_sets(dataset, context.task_type)
        if len(fitting) > 1:
            labels = self.options(context, "annotation-set", "", 0, FIRST_OPTIONS)
            chosen = annotation_set.name if annotation_set else ""
            controls.append(
                Menu(
                    "choose:annotation-set",
                    "Annotation set",
                    labels.options,
                    labels.total,
                    annotation_set.id if annotation_set else "",
                    chosen,
                )
            )
        if annotation_set is not None:
            pages = max(1, -(-annotation_set.image_count // PREVIEW_PER_PAGE))
            shown = min(context.choices.preview_page, pages)
            blocks += [dataset_facts(dataset, annotation_set), *_about_classes(context, annotation_set)]
            blocks.append(preview(dataset, annotation_set, shown))
            if shown > 1:
                controls.append(Button("choose:preview-page", "◀ Previous images", value=str(shown - 1)))
            if shown < pages:
                controls.append(Button("choose:preview-page", "More images ▶", value=str(shown + 1)))
        return View(tuple(blocks), tuple(controls))

    def act(self, context: StepContext, given: Input) -> None:
        """Choose a dataset or an annotation set, or turn a page of the preview."""
        choices = context.choices
        if given.target == "preview-page":
            if not given.value.isascii() or not given.value.isdigit() or not 1 <= int(given.value) <= 10**7:
                raise InvalidInputError("There is no such page of images.")
            choices.preview_page = int(given.value)
            return
        if given.target == "annotation-set":
            if context.dataset is None or given.value not in {item.id for item in learnable_sets(context.dataset, context.task_type)}:
                raise InvalidInputError("That annotation set does not belong to the dataset.", "Choose one of the list.")
            choices.annotation_set_id = given.value
            choices.preview_page = 1
            return
        dataset = find_dataset(context.session, context.actor.workspace, given.value)
        if why := nothing_to_learn(dataset, context.task_type):
            raise InvalidInputError(why, "Choose one of the list.")
        if dataset.id != choices.dataset_id:
            choices.dataset_id, choices.annotation_set_id, choices.preview_page = dataset.id, "", 1
            context.forget_dataset()

    def missing(self, context: StepContext) -> str:
        """A dataset and, where it has several that fit, an annotation set."""
        if context.dataset is None:
            return "Choose a dataset first."
        if context.annotation_set is None:
            return "Choose which annotation set to learn from."
        return context.class_mismatch

    def options(self, context: StepContext, target: str, query: str, offset: int, limit: int) -> OptionPage:
        """Datasets with at least one fitting annotation set; or the annotation sets of the chosen one."""
        if target == "annotation-set":
            fitting = learnable_sets(context.dataset, context.task_type) if context.dataset else []
            return matching([Option(item.id, item.name, _about(item)) for item in fitting], query, offset, limit)
        datasets, total = list_datasets(
            context.session, context.actor.workspace, task_type=context.task_type, search=query, offset=offset, limit=limit
        )
        return OptionPage(tuple(Option(item.id, item.name, count(item.image_count, "image")) for item in datasets), total)


def _about_classes(context: StepContext, annotation_set: AnnotationSet) -> list[Text]:
    """How the classes go with what the flow brings along: an application's, or those of the model that learns on."""
    if context.class_mismatch:
        return [Text(context.class_mismatch, Tone.ERROR)]
    if context.preset is not None and (foreign := context.preset.foreign(annotation_set.classes)):
        return [Text(f"Learnt besides what the application knows: {', '.join(foreign[:12])}.", Tone.HINT)]
    if context.source_model is not None and (changes := class_changes(context.source_model.classes, annotation_set.classes)):
        return [Text(changes, Tone.HINT)]
    return []


def _about(item: AnnotationSet) -> str:
    return f"{AnnotationKind(item.kind).title} · {count(len(item.classes), 'class', 'classes')}"


def _nothing_fits(context: StepContext) -> Text:
    kinds = " or ".join(kind.title for kind in context.task_type.kinds)
    how = (
        "Import one: `stationmaster dataset import PATH --name NAME` takes a folder or a zip, for example one folder of images per class."
        if context.place is None or context.place.at_the_host
        else "Send a zip here, for example with one folder of images per class, or import one with /datasets; then come back with /train."
    )
    return Text(f"No dataset here has annotations for {context.task_type.title.lower()} (it needs {kinds}). {how}", Tone.WARNING)


def dataset_facts(dataset: Dataset, annotation_set: AnnotationSet) -> Facts:
    """What a dataset holds: images, kind of annotations, the commonest classes with their counts."""
    pairs = sorted(zip(annotation_set.classes, annotation_set.class_counts, strict=True), key=lambda pair: -pair[1])
    labels = first_of([f"{name} ({number:,})" for name, number in pairs], 12)
    return Facts(
        (
            ("Images", f"{dataset.image_count:,}, most about {dataset.median_width} × {dataset.median_height} px"),
            ("Annotations", _about(annotation_set)),
            ("Classes", labels),
        ),
        title=dataset.name,
    )


def preview(dataset: Dataset, annotation_set: AnnotationSet | None, page: int) -> Picture:
    """One page of annotated examples, 1-based; of bare images where no set is given."""
    total = dataset.image_count if annotation_set is None else annotation_set.image_count
    first = (page - 1) * PREVIEW_PER_PAGE + 1
    last = min(total, page * PREVIEW_PER_PAGE)
    return Picture(
        f"Images {first:,}–{last:,} of {total:,}" + ("" if annotation_set is None else ", with their annotations"),
        preview=PreviewReference(dataset.id, "" if annotation_set is None else annotation_set.id, page),
    )
