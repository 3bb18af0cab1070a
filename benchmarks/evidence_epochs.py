"""Whether more classes ask for more epochs: the same images under ten, a hundred and a thousand classes, for auto's epochs and for several times as many.

    python benchmarks/evidence_epochs.py [--minutes 60] [--seeds 1] [--times 1 2 3] [--only numbers-1000 places-1000]

Two sets of `evidence_material` of 5,000 images to train on and 2,000 to judge by: numbers of three digits, labelled by one, two or all three of them, and
views of a thousand places in ten photographs, labelled by photograph, row or place. Beside them as many images of a hundred of those numbers and places.
lite0 with ImageNet's weights at 64 px is fine-tuned by auto's recipe, which shows all images five times whatever the classes, or more often. What is
done is kept in the folder, so that a run that ends after `--minutes` is gone on with by the next.
Prints one line of JSON once nothing is left to do: for each set the accuracy by how many times auto's epochs it took, of each seed.
"""

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

from evidence_ranking import NETWORK, Place, worked_off

SIDE = 64
EPOCHS = 5  # what auto takes for so many images, whatever their classes; said here, that figures stay comparable should auto change
SETS = ("numbers-1000", "places-1000", "numbers-100", "places-100", "numbers-10", "places-10", "hundred-numbers", "hundred-places")


def fine_tune(place: Place, name: str, times: int, seed: int) -> None:
    """Train once, and keep the accuracy on the images of validation."""
    job = place.job(name, "single-label", (NETWORK, "imagenet-1k", SIDE), epochs=times * EPOCHS, seed=seed, validation_percent=20)
    result = place.train(job)
    place.storage.delete(f"tasks/{job.task_id}")
    place.keep("trained", trained_key(name, times, seed), result.score)


def trained_key(name: str, times: int, seed: int) -> str:
    """The name that a fine-tuning is kept under."""
    return f"{name}/{times}/{seed}"


def main() -> None:
    """Go on with what is left, and print the accuracies once nothing is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/stationmaster-epochs"), help="where what is done is kept")
    parser.add_argument("--minutes", type=float, default=60, help="begin nothing after so many minutes")
    parser.add_argument("--seeds", type=int, default=1, help="fine-tunings of each")
    parser.add_argument("--times", type=int, nargs="+", default=[1, 2, 3], help="how many times auto's epochs")
    parser.add_argument("--only", nargs="+", choices=SETS, default=list(SETS))
    asked = parser.parse_args()
    place = Place(asked.folder)
    work: list[tuple[str, Callable[[], None]]] = [
        (trained_key(name, times, seed), partial(fine_tune, place, name, times, seed))
        for seed in range(asked.seeds)
        for times in asked.times
        for name in asked.only
    ]
    if worked_off(place, work, asked.minutes):
        done = place.done("trained")
        scores = {
            name: {times: [round(done[trained_key(name, times, seed)], 3) for seed in range(asked.seeds)] for times in asked.times}
            for name in asked.only
        }
        print(json.dumps({"benchmark": "evidence_epochs", "network": NETWORK, "side": SIDE, "epochs": EPOCHS, **scores}))


if __name__ == "__main__":
    main()
