"""Objects under a URL: whole or not at all, from many threads at once."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from core.errors import UnavailableError
from core.storage import Storage


@pytest.fixture(params=["memory", "folder"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    return Storage(f"memory://{tmp_path.name}" if request.param == "memory" else str(tmp_path / "storage"))


def test_threads_write_side_by_side(storage: Storage) -> None:
    def work(number: int) -> None:
        storage.write(f"a/{number}", bytes([number]) * 1000)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(200)))
    assert [storage.read(f"a/{number}") for number in range(200)] == [bytes([number]) * 1000 for number in range(200)]
    assert len(storage.list("a")) == 200


def test_what_ends_in_the_middle_leaves_what_was_there(storage: Storage) -> None:
    storage.write("a/b", b"old")
    for key in ("a/b", "a/new"):
        with pytest.raises(RuntimeError), storage.writing(key) as file:
            file.write(b"half")
            raise RuntimeError
    assert storage.read("a/b") == b"old" and storage.list("a") == ["a/b"]


def test_what_a_network_storages_library_calls_its_troubles_is_said_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """And so known for what it is by those who wait for it. Such errors are no kin of OSError: botocore's EndpointConnectionError is not."""

    class EndpointConnectionError(Exception):
        pass

    def away(*_: object, **__: object) -> None:
        raise EndpointConnectionError

    storage = Storage("memory://away")
    for name in ("exists", "cat_file", "pipe_file", "put_file", "find", "info", "modified"):
        monkeypatch.setattr(storage.filesystem, name, away)
    asked = (storage.exists, storage.read, lambda key: storage.write(key, b""), storage.list, storage.delete, storage.age, storage.info)
    for ask in asked:
        with pytest.raises(UnavailableError, match=r"does not answer \(EndpointConnectionError\)"):
            ask("a")
    with pytest.raises(UnavailableError, match="does not answer"), storage.writing("a") as file:
        file.write(b"x")
    with pytest.raises(ZeroDivisionError), storage.writing("a"):  # what goes wrong in the block is not the storage's fault
        raise ZeroDivisionError
