"""Paths as people type them, or drag them into a terminal."""

from pathlib import Path

import pytest

from bot.desk.paths import typed_path


@pytest.mark.parametrize("written", ["{}", " {} ", "'{}'", '"{}"', "'{}' "])
def test_quotes_around_a_path_are_none_of_it(tmp_path: Path, written: str) -> None:
    image = tmp_path / "a b" / "c.png"
    image.parent.mkdir()
    image.touch()
    assert typed_path(written.format(image)) == image
    assert typed_path(str(image).replace(" ", "\\ ")) == image


def test_a_name_with_quotes_of_its_own_is_found(tmp_path: Path) -> None:
    for name in ("'c'.png", "it's.png", "c\\d.png"):
        (tmp_path / name).touch()
        assert typed_path(str(tmp_path / name)) == tmp_path / name


@pytest.mark.parametrize("text", ["", "nowhere.png", "it's nowhere.png", "two files.png"])
def test_what_is_no_path_stays_as_it_was_typed(text: str) -> None:
    assert typed_path(text) == Path(text)
