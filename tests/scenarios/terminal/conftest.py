"""An installation with a queue and workers that really run, pictures of two kinds of stripes, and somebody at a keyboard."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from installation import Installation, wait_until
from PIL import Image
from typist import Typist


@pytest.fixture(scope="session")
def stripes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty pictures in two class folders that a tiny network tells apart: stripes across and stripes down."""
    draws = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("pictures") / "stripes"
    for number in range(40):
        across = np.tile(np.repeat([40.0, 200.0], 4), 4)
        pixels = np.broadcast_to(across if number % 2 else across[:, None], (32, 32)) + draws.normal(0, 20, (32, 32))
        path = folder / ("down" if number % 2 else "across") / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).convert("RGB").save(path)
    return folder


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory, stripes: Path) -> Iterator[Installation]:
    """`stationmaster up`, and the stripes imported; one for the tests of a module, because a worker takes its time to start."""
    made = Installation(tmp_path_factory.mktemp("installation"))
    made.environment["STATIONMASTER_OFFLINE"] = "1"
    made.start("up")
    imported = made.run("dataset", "import", str(stripes), "--name", "stripes")
    assert imported.returncode == 0, imported.stderr
    wait_until(lambda: made.workers() == {"gpu": 1, "light": 1})
    yield made
    made.end()


@pytest.fixture
def sit_down(installation: Installation) -> Iterator[Callable[[], Typist]]:
    """Opens `stationmaster chat` in a terminal."""
    opened: list[Typist] = []

    def open_chat() -> Typist:
        # Pictures as files: which characters can draw them depends on the terminal.
        environment = {**os.environ, **installation.environment, "TERM": "xterm-256color"}
        opened.append(Typist([sys.executable, "-m", "bot", "chat"], installation.folder, environment))
        return opened[-1]

    yield open_chat
    for typist in opened:
        typist.leave()
