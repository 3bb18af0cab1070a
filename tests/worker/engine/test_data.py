"""Decoded once, shared, whole or not at all; batches that leave no image out."""

import io
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest
from PIL import Image

from core.datasets.records import load_records
from core.errors import UnavailableError
from worker.engine import data
from worker.engine.cache import NoRoomError, cached_array
from worker.engine.data import PreparationCancelledError, batches_of, cached_pixels, decode, epoch_order
from worker.engine.errors import UnreadableImageError


def encoded(image: Image.Image, kind: str) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, quality=95)
    return out.getvalue()


@pytest.fixture
def records(bench: Any) -> list[Any]:
    dataset = bench.stripes(per_class=40)
    with bench.database.read() as session:
        return load_records(session, dataset.id, dataset.annotation_sets[0].id)


def test_images_are_decoded_once_and_shared(bench: Any, records: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []
    real = data.decode
    monkeypatch.setattr(data, "decode", lambda *arguments: (decoded.append(1), real(*arguments))[1])
    arguments: dict[str, Any] = {"storage": bench.storage, "settings": bench.settings}
    results: list[Any] = []
    threads = [threading.Thread(target=lambda: results.append(cached_pixels(records, "abc", 24, **arguments))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(decoded) == 80 and len(results) == 3
    assert all((pixels == results[0]).all() for pixels in results)
    assert results[0].shape == (80, 24, 24, 3) and results[0].dtype == np.uint8
    for record, pixels in list(zip(records, results[0], strict=True))[::17]:
        assert (pixels == real(bench.storage.read(record.key), 24)).all()
    cached_pixels(records, "other data", 24, **arguments)
    cached_pixels(records, "abc", 32, **arguments)
    assert len(decoded) == 240


def test_a_broken_off_preparation_leaves_nothing_half(bench: Any, records: list[Any]) -> None:
    with pytest.raises(PreparationCancelledError):
        cached_pixels(records, "abc", 24, storage=bench.storage, settings=bench.settings, cancelled=lambda: True)
    assert [path.suffix for path in (bench.settings.cache / "pixels").iterdir()] in ([".lock"], [])
    assert cached_pixels(records, "abc", 24, storage=bench.storage, settings=bench.settings).any()


def test_a_cut_cache_file_is_made_again(bench: Any, records: list[Any]) -> None:
    whole = np.array(cached_pixels(records, "abc", 24, storage=bench.storage, settings=bench.settings))
    file = next((bench.settings.cache / "pixels").glob("*.npy"))
    file.write_bytes(file.read_bytes()[:1000])
    assert (cached_pixels(records, "abc", 24, storage=bench.storage, settings=bench.settings) == whole).all()


def test_an_image_that_is_gone_is_named(bench: Any, records: list[Any]) -> None:
    bench.storage.delete(records[5].key)
    with pytest.raises(UnreadableImageError) as caught:
        cached_pixels(records, "abc", 24, storage=bench.storage, settings=bench.settings)
    assert records[5].path in caught.value.what and "Import" in caught.value.remedy


def test_a_full_disk_is_said(bench: Any, records: list[Any]) -> None:
    bench.settings.min_free_bytes = 1 << 60
    with pytest.raises(UnavailableError, match="image cache"):
        cached_pixels(records, "abc", 24, storage=bench.storage, settings=bench.settings)


def test_the_cache_keeps_to_its_bound_and_takes_nothing_that_is_in_use(bench: Any) -> None:
    """Room for two of three arrays: the least recently used goes, but none that is mapped, and nothing where that would not be enough."""
    settings = bench.settings.model_copy(update={"cache_bytes": 2500})

    def array(folder: Any, name: str, size: int = 1000) -> Any:
        return cached_array(folder, name, (size,), lambda values: values.fill(len(name)), settings=settings)

    def there() -> set[str]:
        return {path.stem for path in settings.cache.glob("*/*.npy")}

    used = array("pixels", "used")
    array("masks", "idle")
    array("pixels", "new")
    assert there() == {"used", "new"} and (used == 4).all()
    with pytest.raises(NoRoomError, match="cache"):
        array("pixels", "larger", 2000)
    assert there() == {"used", "new"}
    another = subprocess.run(  # another process sees what is in use, too
        [sys.executable, "-c", IN_ANOTHER_PROCESS, str(settings.cache / "pixels")], capture_output=True, text=True, check=True
    )
    assert another.stdout.split() == ["new.npy", "True", "used.npy", "False"]
    del used
    array("judged", "larger", 2000)
    assert there() == {"larger"}


IN_ANOTHER_PROCESS = """
import pathlib, sys
from worker.engine.cache import _unused
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.npy")):
    print(path.name, _unused(path))
"""


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        (Image.new("L", (50, 40), 100), "PNG"),
        (Image.new("RGB", (500, 375), (100, 100, 100)), "JPEG"),
        (Image.new("L", (500, 375), 100), "JPEG"),
        (Image.new("RGBA", (30, 300), (100, 100, 100, 255)), "PNG"),
        (Image.new("P", (30, 30), 0).convert("RGB").convert("P"), "PNG"),
        (Image.new("1", (30, 30), 1), "PNG"),
    ],
)
def test_every_kind_of_image_becomes_a_square_of_bytes(image: Image.Image, kind: str) -> None:
    pixels = decode(encoded(image, kind), 48)
    assert pixels.shape == (48, 48, 3) and pixels.dtype == np.uint8
    assert (abs(pixels.astype(int) - np.asarray(image.convert("RGB"))[0, 0]) <= 2).all()


def test_what_is_seen_through_is_white() -> None:
    assert (decode(encoded(Image.new("RGBA", (30, 30), (0, 0, 0, 0)), "PNG"), 32) == 255).all()


def test_scaling_down_does_not_alias() -> None:
    checks = np.indices((512, 512)).sum(0) % 2 * 255
    pixels = decode(encoded(Image.fromarray(checks.astype(np.uint8)), "PNG"), 32)
    assert abs(int(pixels.mean()) - 127) <= 2 and pixels.std() < 10


@pytest.mark.parametrize(("count", "size"), [(1, 4), (7, 3), (64, 64), (65, 64), (1000, 64), (5, 1)])
def test_batches_take_each_image_once_and_none_stays_alone(count: int, size: int) -> None:
    batches = batches_of(epoch_order(count, 0, 1), size)
    assert sorted(np.concatenate(batches).tolist()) == list(range(count))
    sizes = {len(batch) for batch in batches}
    assert max(sizes) <= size and max(sizes) - min(sizes) <= 1


def test_every_epoch_has_its_own_order() -> None:
    assert (epoch_order(50, 1, 1) == epoch_order(50, 1, 1)).all()
    assert (epoch_order(50, 1, 1) != epoch_order(50, 1, 2)).any()
    assert (epoch_order(50, 1, 1) != epoch_order(50, 2, 1)).any()
