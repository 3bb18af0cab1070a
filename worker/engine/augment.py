"""Augmentation in batches on the device: all geometric changes composed into one resampling, all changes of colour into one matrix.

What is drawn comes from a generator on the host, seeded by (seed, epoch, step): the same images look the same on every device and after a
resume. The transform of each image is returned, so that boxes and masks can follow it. Images are square.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from torch import Tensor

from core.tasks.hyperparameters import TrainingPlan
from worker.engine.device import constant, sent

Matrices = NDArray[np.float32]

# Share of the image's area, and the aspect ratio, of a random resized crop. torchvision's default area begins at 0.08, which is meant for
# training from scratch on a million images and cuts the subject out of the pictures of a small set.
CROP_AREA = (0.25, 1.0)
CROP_RATIO = (3 / 4, 4 / 3)

_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, as torchvision's adjust_saturation and adjust_contrast
_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])


@dataclass(frozen=True)
class Normalisation:
    """What a network's weights expect: per RGB channel on 0–1."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def apply(self, images: Tensor) -> Tensor:
        """Images of bytes as normalised floats, channels last."""
        scale = constant(tuple(1 / (255 * s) for s in self.std), images.device).view(1, 3, 1, 1)
        shift = constant(tuple(-m / s for m, s in zip(self.mean, self.std, strict=True)), images.device).view(1, 3, 1, 1)
        return torch.addcmul(shift, images.to(torch.float32, memory_format=torch.channels_last), scale)


@dataclass(frozen=True)
class Drawn:
    """What was drawn for some images: [n, 3, 3] matrices as `Augmentation` tells them, and [n, 3, 3] of colours with [n] shifts to mean grey.

    Sliced as the images are.
    """

    geometry: Matrices
    colours: Matrices | None
    greys: NDArray[np.float32] | None

    def __getitem__(self, part: slice) -> "Drawn":
        return Drawn(
            self.geometry[part],
            None if self.colours is None else self.colours[part],
            None if self.greys is None else self.greys[part],
        )


class Augmentation:
    """The augmentations of a plan, in the reference flow's order: flip, resized crop, translation, rotation, colour jitter."""

    def __init__(self, plan: TrainingPlan, normalisation: Normalisation, padding: str = "reflection") -> None:
        self.normalisation = normalisation
        self._padding = padding  # what is seen beyond the image's edge, as torch's grid_sample names it
        self._flip = plan.horizontal_flip
        self._crop = plan.resized_crop
        self._shift = plan.translation_percent / 100 if plan.translation else 0.0
        self._turn = plan.rotation_degrees if plan.rotation else 0
        jitter = plan.colour_jitter
        self._brightness, self._contrast, self._saturation = (
            value if jitter else 0.0 for value in (plan.brightness, plan.contrast, plan.saturation)
        )
        self._hue = plan.hue if jitter else 0.0

    @property
    def changes_geometry(self) -> bool:
        """Whether pixels move."""
        return bool(self._flip or self._crop or self._shift or self._turn)

    @property
    def changes_colour(self) -> bool:
        """Whether pixels change their colour."""
        return bool(self._brightness or self._contrast or self._saturation or self._hue)

    def __call__(self, images: Tensor, random: np.random.Generator) -> tuple[Tensor, Matrices]:
        """Augmented and normalised images.

        Args:
            images: [n, 3, size, size] of bytes.
            random: what is drawn from; the same state gives the same images.

        Returns:
            Floats of the same shape, channels last, and [n, 3, 3] matrices which take homogeneous coordinates of the new image, −1 to 1
            from edge to edge, to those of the old one.
        """
        drawn = self.draw(images.shape[0], random)
        return self.apply(images, drawn), drawn.geometry

    def draw(self, count: int, random: np.random.Generator) -> Drawn:
        """What happens to `count` images."""
        geometry = self.draw_geometry(count, random)
        colours, greys = self._draw_colours(count, random) if self.changes_colour else (None, None)
        return Drawn(geometry, colours, greys)

    def apply(self, images: Tensor, drawn: Drawn) -> Tensor:
        """Let it happen: bytes [n, 3, size, size] in, normalised floats out, channels last."""
        if not self.changes_geometry and drawn.colours is None:
            return self.normalisation.apply(images)
        pixels = images.to(torch.float32)
        if self.changes_geometry:
            pixels = resample(pixels, drawn.geometry, padding=self._padding)
        pixels = pixels / 255 if drawn.colours is None or drawn.greys is None else _recoloured(pixels, drawn.colours, drawn.greys)
        return _normalised(pixels, self.normalisation)

    def draw_geometry(self, count: int, random: np.random.Generator) -> Matrices:
        """One matrix per image, [count, 3, 3], from new coordinates to old."""
        matrices = np.tile(np.eye(3), (count, 1, 1))
        if self._flip:
            matrices = matrices @ _scaling(np.where(random.random(count) < 0.5, -1.0, 1.0), np.ones(count))
        if self._crop:
            area = random.uniform(*CROP_AREA, count)
            ratio = np.exp(random.uniform(math.log(CROP_RATIO[0]), math.log(CROP_RATIO[1]), count))
            width, height = np.minimum(np.sqrt(area * ratio), 1), np.minimum(np.sqrt(area / ratio), 1)
            cut = _scaling(width, height)
            cut[:, 0, 2], cut[:, 1, 2] = random.uniform(-1, 1, count) * (1 - width), random.uniform(-1, 1, count) * (1 - height)
            matrices = matrices @ cut
        if self._shift:
            moved = np.tile(np.eye(3), (count, 1, 1))
            moved[:, :2, 2] = random.uniform(-2 * self._shift, 2 * self._shift, (count, 2))
            matrices = matrices @ moved
        if self._turn:
            angle = np.deg2rad(random.uniform(-self._turn, self._turn, count))
            turned = _scaling(np.cos(angle), np.cos(angle))
            turned[:, 0, 1], turned[:, 1, 0] = -np.sin(angle), np.sin(angle)
            matrices = matrices @ turned
        return matrices.astype(np.float32)

    def _draw_colours(self, count: int, random: np.random.Generator) -> tuple[Matrices, NDArray[np.float32]]:
        """Brightness, contrast, saturation and hue as one 3 × 3 matrix and one shift to the mean grey per image; for 0–255 in, 0–1 out."""
        brightness, contrast, saturation = (
            random.uniform(max(0.0, 1 - most), 1 + most, count) for most in (self._brightness, self._contrast, self._saturation)
        )
        hue = random.uniform(-self._hue, self._hue, count) * 2 * np.pi
        matrix = _hue_rotation(hue) @ (
            saturation[:, None, None] * np.eye(3) + (1 - saturation)[:, None, None] * np.outer(np.ones(3), _LUMA)
        )
        matrix *= (brightness * contrast / 255)[:, None, None]
        return matrix.astype(np.float32), ((1 - contrast) * brightness / 255).astype(np.float32)


def _recoloured(pixels: Tensor, colours: Matrices, greys: NDArray[np.float32]) -> Tensor:
    device = pixels.device
    # Contrast pulls towards the mean grey of the image; grey is what saturation and hue leave as it is.
    mean_grey = pixels.mean((2, 3)) @ constant(tuple(_LUMA.tolist()), device)
    offset = sent(greys, device) * mean_grey
    matrices = sent(colours, device)
    return torch.baddbmm(offset.view(-1, 1, 1), matrices, pixels.flatten(2)).clamp_(0, 1).view(pixels.shape)


def resample(pixels: Tensor, matrices: Matrices, *, padding: str = "reflection", mode: str = "bilinear") -> Tensor:
    """Images [n, channels, size, size] seen through `matrices` (new coordinates to old), by one interpolation."""
    theta = sent(np.ascontiguousarray(matrices[:, :2].transpose(0, 2, 1)), pixels.device)  # what x, y and 1 add to each coordinate
    x, y = (((2 * torch.arange(size, device=pixels.device) + 1) / size - 1).unsqueeze(1) for size in (pixels.shape[3], pixels.shape[2]))
    # Not torch's affine_grid: it multiplies matrices, which autocast has done in bfloat16 and NVIDIA's TF32 to as many digits; a place near
    # 500 px is then known to a pixel.
    by_x, by_y, shift = theta[:, None, None].unbind(3)
    grid = x * by_x + (y.unsqueeze(1) * by_y + shift)
    return functional.grid_sample(pixels, grid, mode=mode, padding_mode=padding, align_corners=False)


def _normalised(pixels: Tensor, normalisation: Normalisation) -> Tensor:
    mean = constant(normalisation.mean, pixels.device).view(1, 3, 1, 1)
    scale = constant(tuple(1 / s for s in normalisation.std), pixels.device).view(1, 3, 1, 1)
    return ((pixels - mean) * scale).contiguous(memory_format=torch.channels_last)


def _scaling(horizontal: NDArray[np.float64], vertical: NDArray[np.float64]) -> NDArray[np.float64]:
    matrices = np.zeros((len(horizontal), 3, 3))
    matrices[:, 0, 0], matrices[:, 1, 1], matrices[:, 2, 2] = horizontal, vertical, 1
    return matrices


def _hue_rotation(angle: NDArray[np.float64]) -> NDArray[np.float64]:
    """RGB matrices that turn the colour circle by `angle` and keep brightness: a rotation of the chrominance plane of YIQ."""
    turned = np.zeros((len(angle), 3, 3))
    turned[:, 0, 0] = 1
    turned[:, 1, 1] = turned[:, 2, 2] = np.cos(angle)
    turned[:, 1, 2], turned[:, 2, 1] = -np.sin(angle), np.sin(angle)
    return np.asarray(np.linalg.inv(_TO_YIQ) @ turned @ _TO_YIQ)
