"""Each augmentation does to the pixels what its name says."""

from typing import Any

import numpy as np
import pytest
import torch

from core.tasks.hyperparameters import TrainingPlan
from worker.engine.augment import Augmentation, Normalisation, resample

PLAIN = Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
NONE: dict[str, Any] = {
    "horizontal_flip": False,
    "resized_crop": False,
    "translation": False,
    "rotation": False,
    "colour_jitter": False,
}


def augmented(images: torch.Tensor, seed: int = 0, padding: str = "reflection", **plan: Any) -> tuple[np.ndarray, np.ndarray]:
    out, matrices = Augmentation(TrainingPlan(**{**NONE, **plan}), PLAIN, padding)(images, np.random.default_rng(seed))
    assert out.is_contiguous(memory_format=torch.channels_last) and out.dtype == torch.float32
    return out.numpy(), matrices


@pytest.fixture
def images() -> torch.Tensor:
    """32 smooth colour images without any symmetry, of bytes, as the data path hands them out."""
    random = torch.Generator().manual_seed(1)
    rough = torch.rand(32, 3, 6, 6, generator=random)
    smooth = torch.nn.functional.interpolate(rough, size=48, mode="bicubic").clamp(0, 1)
    return (smooth * 255).to(torch.uint8).contiguous(memory_format=torch.channels_last)


def test_nothing_ticked_changes_nothing(images: torch.Tensor) -> None:
    out, matrices = augmented(images)
    assert np.allclose(out, images.numpy() / 255, atol=1e-6)
    assert (matrices == np.eye(3)).all()


def test_normalisation(images: torch.Tensor) -> None:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    expected = (images.float() / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    normalisation = Normalisation(mean, std)
    assert torch.allclose(normalisation.apply(images), expected, atol=1e-5)
    with_colour = Augmentation(
        TrainingPlan(**{**NONE, "colour_jitter": True, "brightness": 0, "contrast": 0, "saturation": 0, "hue": 0.0001}), normalisation
    )
    assert torch.allclose(with_colour(images, np.random.default_rng(0))[0], expected, atol=0.02)


def test_flip_mirrors_about_half(images: torch.Tensor) -> None:
    out, _ = augmented(images, horizontal_flip=True)
    plain = images.numpy() / 255
    mirrored = [np.allclose(new, old[:, :, ::-1], atol=1e-4) for new, old in zip(out, plain, strict=True)]
    kept = [np.allclose(new, old, atol=1e-4) for new, old in zip(out, plain, strict=True)]
    assert all(a != b for a, b in zip(mirrored, kept, strict=True))
    assert 8 <= sum(mirrored) <= 24


def test_translation_shifts_within_its_range(images: torch.Tensor) -> None:
    out, matrices = augmented(images, translation=True, translation_percent=10, padding="zeros")
    shifts = matrices[:, :2, 2] / 2  # shares of the side
    assert np.abs(shifts).max() <= 0.1 and np.abs(shifts).max() > 0.07 and shifts.min() < 0 < shifts.max()
    assert np.allclose(matrices[:, :2, :2], np.eye(2))
    # Where the image has moved to the left by whole pixels' worth, its right edge is empty.
    moved = next(number for number, shift in enumerate(shifts[:, 0]) if shift > 0.05)
    assert (out[moved][:, :, -2:] == 0).all() and (out[moved][:, 10:-10, :20] > 0).any()


def test_rotation_turns_within_its_range(images: torch.Tensor) -> None:
    _, matrices = augmented(images, rotation=True, rotation_degrees=30)
    angles = np.rad2deg(np.arctan2(matrices[:, 1, 0], matrices[:, 0, 0]))
    assert np.abs(angles).max() <= 30 and np.abs(angles).max() > 20 and angles.min() < 0 < angles.max()
    assert np.allclose(np.linalg.det(matrices), 1, atol=1e-5)


def test_a_quarter_turn_turns_the_pixels(images: torch.Tensor) -> None:
    quarter = np.tile(np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]], np.float32), (len(images), 1, 1))
    turned = resample(images.float(), quarter)
    turns = [np.allclose(turned.numpy(), np.rot90(images.numpy(), times, (2, 3)), atol=1e-2) for times in (1, 3)]
    assert sum(turns) == 1


def test_places_are_exact_under_autocast_too() -> None:
    """Masks are moved within the step, which a GPU computes in bfloat16: on its grid their outlines would be a pixel off, and not the images'."""
    side = 512
    angle = np.deg2rad(17)
    turned = np.array([[[np.cos(angle), -np.sin(angle), 0.1], [np.sin(angle), np.cos(angle), -0.2], [0, 0, 1]]], np.float32)
    across = torch.arange(side).float().expand(1, 1, side, side)  # each pixel says where it was
    with torch.autocast("cpu", torch.bfloat16):
        seen = resample(across, turned, padding="border")[0, 0]
    middles = (2 * np.arange(side) + 1) / side - 1
    x = turned[0, 0, 0] * middles[None] + turned[0, 0, 1] * middles[:, None] + turned[0, 0, 2]
    expected = (((x + 1) * side - 1) / 2).clip(0, side - 1)
    assert np.abs(seen.numpy() - expected).max() < 1e-3


def test_resized_crop_shows_a_part(images: torch.Tensor) -> None:
    out, matrices = augmented(images, resized_crop=True)
    areas = matrices[:, 0, 0] * matrices[:, 1, 1]
    assert areas.min() >= 0.2 and areas.max() <= 1 and areas.std() > 0.05
    corners = np.array([[-1, -1, 1], [1, 1, 1]]).T
    seen = matrices @ corners
    assert np.abs(seen[:, :2]).max() <= 1 + 1e-5  # nothing beyond the edge is shown
    number = int(areas.argmin())
    assert not np.allclose(out[number], images[number].numpy() / 255, atol=0.02)


def test_brightness_scales_all_colours_alike(images: torch.Tensor) -> None:
    dark = (images // 2).contiguous(memory_format=torch.channels_last)
    out, _ = augmented(dark, colour_jitter=True, brightness=0.5, contrast=0, saturation=0, hue=0)
    factors = out.mean((1, 2, 3)) / (dark.numpy() / 255).mean((1, 2, 3))
    assert factors.min() >= 0.5 and factors.max() <= 1.5 and factors.std() > 0.1
    assert np.allclose(out, dark.numpy() / 255 * factors[:, None, None, None], atol=0.01)


def test_contrast_keeps_the_mean_grey(images: torch.Tensor) -> None:
    out, _ = augmented(images, colour_jitter=True, brightness=0, contrast=0.5, saturation=0, hue=0)
    plain = images.numpy() / 255
    luma = np.array([0.299, 0.587, 0.114])
    greys = np.einsum("nchw,c->nhw", out, luma), np.einsum("nchw,c->nhw", plain, luma)
    assert np.allclose(greys[0].mean((1, 2)), greys[1].mean((1, 2)), atol=0.03)
    spreads = greys[0].std((1, 2)) / greys[1].std((1, 2))
    assert spreads.min() > 0.45 and spreads.max() < 1.55 and spreads.std() > 0.1


def test_saturation_keeps_the_grey_of_each_pixel(images: torch.Tensor) -> None:
    soft = (images // 4 + 96).contiguous(memory_format=torch.channels_last)  # far from both ends, where nothing is cut off
    out, _ = augmented(soft, colour_jitter=True, brightness=0, contrast=0, saturation=0.9, hue=0)
    luma = np.array([0.299, 0.587, 0.114])
    assert np.allclose(np.einsum("nchw,c->nhw", out, luma), np.einsum("nchw,c->nhw", soft.numpy() / 255, luma), atol=1e-4)
    chroma = (out.max(1) - out.min(1)).mean((1, 2)) / (soft.numpy().max(1) - soft.numpy().min(1)).mean((1, 2)) * 255
    assert chroma.min() < 0.6 and chroma.max() > 1.4


def test_hue_turns_the_colour_circle_and_keeps_greys() -> None:
    red = torch.zeros(64, 3, 8, 8, dtype=torch.uint8)
    red[:, 0] = 140
    red[:, 1:] = 90
    out, _ = augmented(
        red.contiguous(memory_format=torch.channels_last), colour_jitter=True, brightness=0, contrast=0, saturation=0, hue=0.5
    )
    strongest = out[:, :, 0, 0].argmax(1)
    assert set(strongest.tolist()) == {0, 1, 2}  # half a circle to both sides reaches every colour
    grey = torch.full((16, 3, 8, 8), 90, dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    out, _ = augmented(grey, colour_jitter=True, brightness=0, contrast=0, saturation=0, hue=0.5)
    assert np.allclose(out, 90 / 255, atol=1e-3)


def test_a_third_of_the_circle_takes_red_towards_green() -> None:
    from worker.engine.augment import _hue_rotation

    colours = (_hue_rotation(np.array([2 * np.pi / 3, -2 * np.pi / 3])) @ np.array([0.6, 0.4, 0.4])).tolist()
    assert {int(np.argmax(colour)) for colour in colours} == {1, 2}


def test_the_same_draw_gives_the_same_images(images: torch.Tensor) -> None:
    everything = dict.fromkeys(NONE, True)
    first, second, other = (augmented(images, seed=seed, **everything)[0] for seed in (5, 5, 6))
    assert (first == second).all() and (first != other).any()


def test_matrices_say_where_pixels_went(images: torch.Tensor) -> None:
    everything = {**dict.fromkeys(NONE, True), "colour_jitter": False}
    spot = torch.zeros(16, 3, 96, 96, dtype=torch.uint8)
    spot[:, :, 40:46, 52:58] = 255
    out, matrices = augmented(spot.contiguous(memory_format=torch.channels_last), padding="zeros", **everything)
    old = np.array([(55 / 96) * 2 - 1, (43 / 96) * 2 - 1, 1])
    found = 0
    for picture, matrix in zip(out, matrices, strict=True):
        x, y, _ = np.linalg.inv(matrix) @ old
        if picture[0].max() < 0.5:
            continue  # cut off
        rows, columns = np.nonzero(picture[0] > 0.5)
        column, row = (x + 1) / 2 * 96 - 0.5, (y + 1) / 2 * 96 - 0.5
        if 6 < column < 90 and 6 < row < 90:
            assert abs(rows.mean() - row) < 1.5 and abs(columns.mean() - column) < 1.5
            found += 1
    assert found >= 5
