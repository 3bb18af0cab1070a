"""Names in sentences."""

from core.names import first_of


def test_many_names_do_not_fill_a_message() -> None:
    assert first_of(["a", "b"], 2) == "a, b"
    assert first_of([str(number) for number in range(2_000)], 2) == "0, 1 and 1,998 more"
