"""Paths as people type them, or drag them into a terminal."""

from pathlib import Path

import pytest

from bot.desk.paths import typed_path
from core.errors import InvalidInputError


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


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("nowhere.png", f"{Path.cwd()}/nowhere.png."),
        ("it's nowhere.png", f"{Path.cwd()}/it's nowhere.png."),
        ("'/my folder/missing.zip'", " /my folder/missing.zip."),
        ("~/missing", f"{Path.home()}/missing."),
        ("/" + "x" * 5000, "xxx."),
        ("~nobody-of-this-name/x", " ~nobody-of-this-name/x."),
        ("a\0b", "a\0b."),
    ],
)
def test_what_is_not_there_is_told(text: str, told: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        typed_path(text)
    assert caught.value.what.endswith(told) and len(caught.value.what) < 300


@pytest.mark.parametrize("text", ["", "  ", '""', "''", "' '"])
def test_nothing_typed_is_not_the_folder_one_is_in(text: str) -> None:
    with pytest.raises(InvalidInputError, match="No path was given"):
        typed_path(text)
