"""The rows of `catalogue.json`, as `core.zoo.catalogue` reads them."""

from dataclasses import dataclass, fields
from typing import Any, ClassVar

from worker.networks.measuring import Measured

SPEED_SOURCES = {
    "training": "images/s in training, RTX 3090, mixed precision, channels-last; timm project, PyTorch 1.12",
    "inference": "images/s in inference, RTX 4090, mixed precision, channels-last; timm project, PyTorch 2.4",
}  # and “measured”, which says where
ACCURACY_SOURCES = {
    "timm": "ImageNet-1k validation, top 1; timm project",
    "torchvision": "ImageNet-1k validation, top 1; torchvision",
    "torchvision-coco": "COCO val2017, AP 50:95; torchvision",
    "torchvision-masks": "COCO val2017, mask AP 50:95; torchvision",
    "torchvision-voc": "COCO val2017 with the classes of Pascal VOC, mean IoU; torchvision",
    "package": "ImageNet-1k validation, top 1, of the original TensorFlow weights; timm project",
    "authors": "COCO val2017, AP 50:95; the authors",
}
TASK_TYPES = {
    "classification": ["single-label", "multi-label"],
    "detection": ["object-detection"],
    "segmentation": ["object-segmentation"],
}


@dataclass(frozen=True)
class NetworkRow:
    """One network: what holds for all its weights. `task_types` is a key of TASK_TYPES; `gmacs` and `memory_mb` are at `input_size`."""

    network: str
    library: str
    family: str
    variation: str
    task_types: str
    recipe: str
    parameters: int
    gmacs: float
    memory_mb: float
    images_per_second: float | None
    speed_source: str  # a key of the catalogue's speed sources
    input_size: int
    min_size: int
    size_multiple: int
    fixed_size: bool
    sized_at_build: bool
    instances_only: bool = False
    from_scratch: bool = True

    @classmethod
    def of(
        cls,
        network: str,
        measured: Measured,
        *,
        input_size: int,
        variation: str = "",
        gmacs: float | None = None,
        **facts: Any,
    ) -> "NetworkRow":
        """From what was measured, rounded so that a rebuild elsewhere writes the same. The speed is the rebuild's to add."""
        return cls(
            network=network,
            variation=variation,
            parameters=measured.parameters,
            gmacs=round(measured.gmacs if gmacs is None else gmacs, 4),
            memory_mb=round(measured.memory_mb, 1),
            images_per_second=None,
            speed_source="",
            input_size=input_size,
            min_size=measured.min_size,
            size_multiple=measured.size_multiple,
            fixed_size=measured.fixed_size,
            sized_at_build=measured.sized_at_build,
            **facts,
        )

    def values(self) -> list[Any]:
        """In the order of NETWORK_COLUMNS; truths as 0 and 1."""
        return [int(value) if isinstance(value, bool) else value for value in (getattr(self, name) for name in NETWORK_COLUMNS)]


@dataclass(frozen=True)
class WeightRow:
    """One pre-training of one network. `input_size` 0 means the network's; `data_types` separated by blanks."""

    network: str
    pretraining: str
    pretrained_on: str
    licence: str
    source: str
    sha256: str = ""
    input_size: int = 0
    normalisation: int = 0
    interpolation: str = "bicubic"
    accuracy: float | None = None
    accuracy_source: str = ""
    data_types: str = ""

    _normalisations: ClassVar[list[tuple[tuple[float, ...], tuple[float, ...]]]] = [((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]

    @classmethod
    def normalisation_of(cls, mean: tuple[float, ...], std: tuple[float, ...]) -> int:
        """The number of this normalisation in the table, entered when new."""
        pair = (tuple(mean), tuple(std))
        if pair not in cls._normalisations:
            cls._normalisations.append(pair)
        return cls._normalisations.index(pair)

    @classmethod
    def normalisations(cls) -> list[Any]:
        """The table: mean and std per RGB channel."""
        return [[list(mean), list(std)] for mean, std in cls._normalisations]

    def values(self) -> list[Any]:
        """In the order of WEIGHT_COLUMNS."""
        return [getattr(self, name) for name in WEIGHT_COLUMNS]


NETWORK_COLUMNS = [field.name for field in fields(NetworkRow)]
WEIGHT_COLUMNS = [field.name for field in fields(WeightRow) if not field.name.startswith("_")]
