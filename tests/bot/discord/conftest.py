"""Discord's checks, for the tests of single modules."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def problems() -> Callable[..., list[str]]:
    spec = importlib.util.spec_from_file_location("discord_api_checks", Path(__file__).parent / "api_checks.py")
    assert spec is not None and spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.problems
