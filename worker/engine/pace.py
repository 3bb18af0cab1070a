"""How fast it goes, and how long it will take."""

from dataclasses import dataclass

# A step on the first images pays for allocations, compiled kernels and cold caches.
_WARM_UP_STEPS = 3
_MEMORY = 200  # images' seconds are averaged over about so many steps
# Judging an image costs about a third of learning from it: no backward pass.
_EVALUATION_SHARE = 1 / 3


@dataclass
class Pace:
    """Averages of what steps and evaluations took."""

    steps: int = 0
    seconds_per_image: float | None = None
    evaluation_seconds: float = 0.0  # of the last one
    evaluations: int = 0

    def stepped(self, seconds: float, images: int) -> None:
        """Take in one training step."""
        self.steps += 1
        if self.steps <= _WARM_UP_STEPS:
            return
        each = seconds / images
        weight = 1 / min(self.steps - _WARM_UP_STEPS, _MEMORY)
        self.seconds_per_image = (
            each if self.seconds_per_image is None else self.seconds_per_image + weight * (each - self.seconds_per_image)
        )

    def evaluated(self, seconds: float) -> None:
        """Take in one evaluation."""
        self.evaluations += 1
        self.evaluation_seconds = seconds

    @property
    def images_per_second(self) -> float:
        """Of training, lately; 0 until it is known."""
        return 1 / self.seconds_per_image if self.seconds_per_image else 0.0

    def seconds_left(self, *, images: int, evaluations: int, validation_images: int) -> float | None:
        """Time for so many training images and so many evaluations; None until it can be told."""
        if self.seconds_per_image is None:
            return None
        each = self.evaluation_seconds if self.evaluations else self.seconds_per_image * validation_images * _EVALUATION_SHARE
        return images * self.seconds_per_image + evaluations * each
