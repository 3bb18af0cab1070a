"""How fast it goes, and how long it will take."""

from dataclasses import dataclass

# A step on the first images pays for allocations, compiled kernels and cold caches.
_WARM_UP_STEPS = 3
# Images' seconds are averaged over about so many steps. A host that was a third slower from the second epoch of 125 steps on, as hosts are that
# others use, too, or that grow warm, was told a fifth too little with 200.
_MEMORY = 50
# Judging an image costs about a third of learning from it: no backward pass.
_EVALUATION_SHARE = 1 / 3
_BEST_SHARE = 1 / 2  # of the epochs that are to come is thought to be the best until then


@dataclass
class Pace:
    """Averages of what steps and evaluations took, and what writing checkpoints adds."""

    steps: int = 0
    seconds_per_image: float | None = None
    evaluation_seconds: float = 0.0  # of the last one
    evaluations: int = 0
    writing_seconds: float = 0.0  # that a checkpoint takes
    _cold_seconds_per_image: float | None = None  # of the quickest of the first steps

    def stepped(self, seconds: float, images: int) -> None:
        """Take in one training step."""
        self.steps += 1
        each = seconds / images
        if self.steps <= _WARM_UP_STEPS:
            self._cold_seconds_per_image = min(each, self._cold_seconds_per_image or each)
            return
        weight = 1 / min(self.steps - _WARM_UP_STEPS, _MEMORY)
        self.seconds_per_image = (
            each if self.seconds_per_image is None else self.seconds_per_image + weight * (each - self.seconds_per_image)
        )

    def evaluated(self, seconds: float) -> None:
        """Take in one evaluation."""
        self.evaluations += 1
        self.evaluation_seconds = seconds

    def written(self, state_seconds: float, best_seconds: float) -> None:
        """Take in how long a checkpoint takes to be written: the state, and the weights of an epoch that is the best."""
        self.writing_seconds = state_seconds + _BEST_SHARE * best_seconds

    @property
    def images_per_second(self) -> float:
        """Of training, lately; 0 until it is known."""
        each = self._seconds_per_image()
        return 1 / each if each else 0.0

    def _seconds_per_image(self) -> float | None:
        """Of training; of its first steps only where an epoch has so few."""
        if self.seconds_per_image is None and self.evaluations:
            return self._cold_seconds_per_image
        return self.seconds_per_image

    def seconds_left(self, *, images: int, evaluations: int, epoch_images: int, validation_images: int) -> float | None:
        """Time for so many training images and so many evaluations, of which each ends an epoch; None until it can be told."""
        image = self._seconds_per_image()
        if image is None:
            return None
        evaluation = self.evaluation_seconds if self.evaluations else image * validation_images * _EVALUATION_SHARE
        # The next epoch goes on beside a write, and at its end waits for what is left of it; the last write is waited for as a whole.
        waiting = max(0.0, self.writing_seconds - epoch_images * image - evaluation)
        return images * image + evaluations * (evaluation + waiting) + self.writing_seconds
