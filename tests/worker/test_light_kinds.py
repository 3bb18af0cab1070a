"""The light worker does whatever the faces leave to it."""

import re
from pathlib import Path

from worker.light import LIGHT

BOT = Path(__file__).resolve().parents[2] / "bot"


def test_every_kind_that_a_face_submits_is_done() -> None:
    submitted = re.compile(r'(?:submit_light_job\([^)]*?kind=|done_by_light_worker\(\s*\w+,\s*)"([a-z-]+)"', re.DOTALL)
    kinds = {kind for path in BOT.rglob("*.py") for kind in submitted.findall(path.read_text(encoding="utf-8"))}
    assert {"predict", "predict-all", "batch-test", "export", "import"} <= kinds  # the search finds them
    assert kinds <= set(LIGHT)
