"""A finished model on an image or many: labels, boxes or masks with their confidence, and a picture of where. On the best device there is."""

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import chain
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import nn

from core.datasets import masks
from core.datasets.images import StoredImage
from core.datasets.reading import read_pictures
from core.errors import BadDataError, NotFoundError
from core.identifiers import new_id
from core.models.thresholds import require_threshold
from core.settings import Settings
from core.storage import Storage
from core.tasks.sweeping import PREDICTIONS
from core.vocabulary import TaskType
from core.zoo.spec import ModelSpec
from worker.engine.augment import Normalisation
from worker.engine.data import decode, with_all_cores
from worker.engine.device import choose_device
from worker.engine.errors import is_out_of_memory
from worker.networks import build
from worker.networks.loading import restore
from worker.reports.activation import Maps, activation_maps
from worker.reports.found_labels import find_labels
from worker.reports.found_objects import drawing_of, find_objects
from worker.reports.found_regions import drawing_of as drawing_of_regions
from worker.reports.found_regions import find_regions, pixels_at
from worker.reports.mask_files import numbered
from worker.reports.pictures import Heat, heat_over

logger = logging.getLogger(__name__)

Said = TypeVar("Said")

CPU = torch.device("cpu")

BATCH = 16
_MOST_MAPS = 3  # of one image's labels
_BATCH_OF_MAPS = 4  # a map needs all that lies between the layers, several times


@dataclass
class LoadedModel:
    """A model read from its folder, ready for images on its device, which it leaves where the memory there is too small for it."""

    card: dict[str, Any]
    network: nn.Module
    task_type: TaskType
    device: torch.device = CPU

    @property
    def classes(self) -> list[str]:
        """Names of the classes, in the order of the outputs."""
        return list(self.card["classes"])

    @property
    def gives_instances(self) -> bool:
        """Whether it marks single objects by masks."""
        return bool(self.card["spec"].get("instances_only", False))

    @property
    def finds_objects(self) -> bool:
        """Whether it finds single objects, with boxes."""
        return self.task_type is TaskType.OBJECT_DETECTION or self.gives_instances

    @property
    def exclusive(self) -> bool:
        """Whether, of a model for regions, a place belongs to one class at most."""
        return bool(self.card.get("exclusive", False))

    def move(self, device: torch.device) -> None:
        """Be ready for images on another device."""
        self.network.to(device)
        self.device = device

    def prepare(self, *files: bytes) -> torch.Tensor:
        """Image files as the network takes them, [n, 3, size, size], on its device."""
        preprocessing = self.card["preprocessing"]
        side = int(preprocessing["size"][0])
        pixels = np.empty((len(files), side, side, 3), np.uint8)

        def decode_one(place: int) -> None:
            pixels[place] = decode(files[place], side)

        with_all_cores(len(files), decode_one, lambda: False)
        normalisation = Normalisation(tuple(preprocessing["mean"]), tuple(preprocessing["std"]))
        return normalisation.apply(torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2))


def load_model(model_key: str, *, storage: Storage, settings: Settings, device: torch.device = CPU) -> LoadedModel:
    """Read a model folder, for `device`, or for the CPU where that has no memory left for it.

    Raises:
        NotFoundError: when it is gone.
        BadDataError: when its files are damaged or do not belong together.
    """
    try:
        card = json.loads(storage.read(f"{model_key}/model_card.json"))
        weights = load_safetensors(storage.read(f"{model_key}/model.safetensors"))
        task_type, classes, side = TaskType(card["task_type"]), len(card["classes"]), int(card["preprocessing"]["size"][0])
        spec = ModelSpec(**{**card["spec"], "task_types": tuple(TaskType(name) for name in card["spec"]["task_types"])})
    except FileNotFoundError as error:
        raise NotFoundError("The files of this model are gone.", "Train it again.") from error
    except (ValueError, LookupError, TypeError, SafetensorError) as error:
        raise BadDataError("The files of this model are damaged.", "Train it again.") from error
    network = build(spec, task_type, classes, pretrained=False, settings=settings, image_size=side)
    try:
        restore(network, weights)
    except RuntimeError as error:
        raise BadDataError("The weights of this model do not fit its network any more.", "Train it again with this version.") from error
    model = LoadedModel(card, network.eval().to(memory_format=torch.channels_last), task_type)
    try:
        model.move(device)
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        model.move(CPU)
    return model


def predict(
    model_key: str, image: bytes, *, name: str = "", threshold: float | None = None, storage: Storage, settings: Settings
) -> dict[str, Any]:
    """What a model says of one image file; of a DICOM file, which its `name` may tell, as its import would show it.

    An object, or one of several labels, counts from the confidence `threshold` on, 0 to 1; without it, from what the model found best.

    Returns:
        `labels`, as `find_labels`, `find_objects` or `find_regions` say them, each with `label` and `confidence`; `width` and `height` of
        the image upright, in whose pixels boxes and areas (`pixels`) are told (a mask has a size of its own, smaller where the image is large). `picture_key`:
        where a heat map of the first label lies, or the drawing of objects or regions; missing where the network has no map. `frames`:
        how many pictures the file holds, where it is more than this one.

    Raises:
        BadDataError: when the image cannot be read.
        InvalidInputError: when a threshold is given for a model that has none.
        NotFoundError: when the model's files are gone.
    """
    pictures = read_pictures(image, name, settings.max_image_pixels)
    model = load_model(model_key, storage=storage, settings=settings, device=choose_device().torch)
    (said,) = _in_parts(model, pictures[:1], _thresholds(model, threshold), draw=True)
    answer = dict(said.answer)
    if (frames := max(pictures[0].frames, len(pictures))) > 1:
        answer["frames"] = frames
    if said.picture is not None:
        answer["picture_key"] = f"{PREDICTIONS}/{new_id()}.png"
        storage.write(answer["picture_key"], said.picture)
    return answer


def predict_all(
    model_key: str,
    images: Mapping[str, str],
    *,
    storage: Storage,
    settings: Settings,
    draw: bool = False,
    threshold: float | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[dict[str, Any]]:
    """What a model says of many image files, in batches.

    Args:
        model_key: the model's folder.
        images: name → storage key of each image file.
        storage: where model and images lie.
        settings: of the installation.
        draw: whether to leave a picture of each, and of masks a file. All lie in one storage folder, for the caller to delete.
        threshold: as `predict` takes it.
        progress: told how many of how many are done.

    Returns:
        For each image its name as `file`, and what `predict` says of it, or `error` where it cannot be read. A DICOM file of several frames
        has an answer for each, with its number, from 1, as `frame`. With `draw`, `mask_key` is where the masks lie as `numbered` writes
        them: the place in the model's classes, from 1, for regions, and for instances the place among `labels`, from 1, the surest on top.

    Raises:
        NotFoundError, BadDataError: when the model's files are gone or damaged.
        InvalidInputError: when a threshold is given for a model that has none.
    """
    model = load_model(model_key, storage=storage, settings=settings, device=choose_device().torch)
    thresholds = _thresholds(model, threshold)
    folder, files, left = f"{PREDICTIONS}/{new_id()}", list(images.items()), 0
    answers: list[dict[str, Any]] = []
    for start in range(0, len(files), BATCH):
        progress(start, len(files))
        some = files[start : start + BATCH]
        read = _read_all([(name, storage, key) for name, key in some], settings.max_image_pixels)
        readable = [picture for pictures in read if isinstance(pictures, list) for picture in pictures]
        said = iter(_in_parts(model, readable, thresholds, draw=draw))
        for (name, _), pictures in zip(some, read, strict=True):
            if isinstance(pictures, BadDataError):
                answers.append({"file": name, "error": pictures.what})
                continue
            for picture, one in zip(pictures, said, strict=False):
                answer = {"file": name} | ({} if picture.frame < 0 else {"frame": picture.frame + 1}) | one.answer
                if picture.frames > 1:
                    answer["frames"] = picture.frames
                for kind, data in (("picture", one.picture), ("mask", one.mask)):
                    if data is not None:
                        left += 1
                        answer[f"{kind}_key"] = f"{folder}/{left:07d}.png"
                        storage.write(answer[f"{kind}_key"], data)
                answers.append(answer)
    progress(len(files), len(files))
    return answers


class _Said(NamedTuple):
    """What a model says of a picture; with a drawing of it and its masks as files, where they were asked for and there are any."""

    answer: dict[str, Any]
    picture: bytes | None
    mask: bytes | None


def _read_all(files: Sequence[tuple[str, Storage, str]], max_pixels: int) -> list[list[StoredImage] | BadDataError]:
    """The pictures of each file, or why there are none."""
    read: list[list[StoredImage] | BadDataError] = [[] for _ in files]

    def read_one(place: int) -> None:
        name, storage, key = files[place]
        try:
            read[place] = read_pictures(storage.read(key), name, max_pixels)
        except BadDataError as error:
            read[place] = error

    with_all_cores(len(files), read_one, lambda: False)
    return read


def _thresholds(model: LoadedModel, asked: float | None) -> Sequence[float]:
    """Per class the confidence from which on it counts: the one that is asked for, or the model's own; none where it has none."""
    if asked is None:
        return model.card.get("thresholds") or ()
    require_threshold(model.task_type, instances=model.gives_instances)
    return [asked] * len(model.classes)


def as_memory_allows(model: LoadedModel, count: int, at_once: int, work: Callable[[slice], Said]) -> Iterator[Said]:
    """What `work` gives for each part of `count` images, at most `at_once` of them.

    Where the memory of the model's device does not suffice, parts are halved; where it does not for a single image, for others may be training on
    it, the model moves to the CPU.
    """
    start = 0
    while start < count:
        try:
            said = work(slice(start, min(start + at_once, count)))
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not is_out_of_memory(error) or (at_once == 1 and model.device == CPU):
                raise
            if at_once > 1:
                at_once = min(at_once, count - start) // 2 or 1
            else:
                logger.warning("the model goes on on the CPU: %s", error)
                model.move(CPU)
            continue
        yield said
        start += at_once


def _in_parts(model: LoadedModel, pictures: Sequence[StoredImage], thresholds: Sequence[float], *, draw: bool) -> Iterator[_Said]:
    """What a model says of pictures, so many at once as the device's memory holds."""
    maps = draw and model.task_type in (TaskType.SINGLE_LABEL, TaskType.MULTI_LABEL)
    parts = as_memory_allows(
        model, len(pictures), _BATCH_OF_MAPS if maps else BATCH, lambda part: _said(model, pictures[part], thresholds, draw=draw)
    )
    return chain.from_iterable(parts)


def _said(model: LoadedModel, pictures: Sequence[StoredImage], thresholds: Sequence[float], *, draw: bool) -> list[_Said]:
    """What a model says of pictures that go through its network at once."""
    images = model.prepare(*(picture.data for picture in pictures))
    classes = model.classes
    labels: list[list[dict[str, Any]]]
    heats: Sequence[Maps] = [[]] * len(pictures)
    sizes = [(picture.width, picture.height) for picture in pictures]
    if model.finds_objects:
        with torch.inference_mode():
            found = [{name: value.cpu() for name, value in one.items()} for one in model.network(images)]
        labels = [find_objects(one, images.shape[-1], size, classes, thresholds) for one, size in zip(found, sizes, strict=True)]
    elif model.task_type is TaskType.OBJECT_SEGMENTATION:
        with torch.inference_mode():
            logits = model.network(images)
            labels = [find_regions(one, size, classes, exclusive=model.exclusive) for one, size in zip(logits, sizes, strict=True)]
    else:
        labels, heats = _labels(model, images, thresholds, draw=draw)
    said = [
        _Said({"labels": found, "width": width, "height": height}, None, None) for found, (width, height) in zip(labels, sizes, strict=True)
    ]
    if draw:

        def draw_one(place: int) -> None:
            said[place] = _drawn(model, pictures[place], said[place].answer, heats[place])

        with_all_cores(len(said), draw_one, lambda: False)
    return [_in_the_file(one, picture) for one, picture in zip(said, pictures, strict=True)]


def _in_the_file(said: _Said, picture: StoredImage) -> _Said:
    """The same with places in the pixels of the file, where its picture was scaled down to be looked at."""
    width, height = picture.upright_source_size
    if (width, height) == (picture.width, picture.height):
        return said
    across, down = width / picture.width, height / picture.height

    def told(one: dict[str, Any]) -> dict[str, Any]:
        there: dict[str, Any] = {}
        if "box" in one:
            there["box"] = [round(side * factor, 2) for side, factor in zip(one["box"], (across, down) * 2, strict=True)]
        if "pixels" in one:
            high, wide = one["mask"]["size"]
            there["pixels"] = pixels_at(masks.decode(one["mask"]["counts"], wide, high).astype(bool), (width, height))
        return one | there

    labels = [told(one) for one in said.answer["labels"]]
    return said._replace(answer=said.answer | {"labels": labels, "width": width, "height": height})


def _labels(
    model: LoadedModel, images: torch.Tensor, thresholds: Sequence[float], *, draw: bool
) -> tuple[list[list[dict[str, Any]]], list[Maps]]:
    """What a classifier says of each image, and if it is to be drawn the maps of what `_explained` picks of that, in its order."""
    several = model.task_type is TaskType.MULTI_LABEL
    labels: list[list[dict[str, Any]]] = []

    def say(logits: torch.Tensor) -> torch.Tensor:
        labels.extend(find_labels(one, model.classes, several=several, thresholds=thresholds) for one in logits.float().cpu())
        rows = [[model.classes.index(one["label"]) for one in _explained(found)] for found in labels]
        most = max(map(len, rows))  # images of which less is explained have their first class again, and again
        return torch.tensor([row + row[:1] * (most - len(row)) for row in rows], device=logits.device)

    if not draw:
        with torch.inference_mode():
            say(model.network(images))
        return labels, [[] for _ in labels]
    _, maps = activation_maps(model.network, images, say)
    return labels, [heats[: len(_explained(found))] for heats, found in zip(maps, labels, strict=True)]


def _explained(labels: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
    """The labels of an image of which it is shown where the evidence lies: those that count, the surest of them; where none does, the surest."""
    return [one for one in labels if one.get("present")][:_MOST_MAPS] or labels[:1]


def _drawn(model: LoadedModel, picture: StoredImage, answer: dict[str, Any], maps: Maps) -> _Said:
    labels, size, source, classes = answer["labels"], (picture.width, picture.height), picture.upright_source_size, model.classes
    with Image.open(BytesIO(picture.data)) as opened:
        if model.finds_objects:
            layers = [(number, one["mask"]) for number, one in enumerate(labels, 1)][::-1] if model.gives_instances else None
            return _Said(answer, drawing_of(opened, labels, classes), None if layers is None else numbered(layers, size, source))
        if model.task_type is TaskType.OBJECT_SEGMENTATION:
            regions = [(classes.index(one["label"]) + 1, one["mask"]) for one in labels]
            return _Said(answer, drawing_of_regions(opened, labels, classes), numbered(regions, size, source))
        shown = zip(_explained(labels), maps, strict=True)
        heats = [Heat(one["label"], one["confidence"], map_, one.get("present", True)) for one, map_ in shown if map_ is not None]
        return _Said(answer, heat_over(opened, heats) if heats else None, None)
