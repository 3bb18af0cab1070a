"""Import: class folders and label.csv from folders and archives, whole or not at all."""

import io
import itertools
import os
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from sqlalchemy import select

from core.datasets import decoding, image_store, sweeping
from core.datasets.listing import list_datasets
from core.datasets.storing import StrictError
from core.db.session import Database
from core.db.tables import Dataset, DatasetImage
from core.errors import BadDataError, ConflictError, InvalidInputError, NotFoundError, UnavailableError

Picture = Callable[..., bytes]


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def labels(home: Any, dataset: Dataset) -> dict[str, str]:
    classes = dataset.annotation_sets[0].classes
    return {record.path: classes[record.value["label"]] for record in home.records(dataset)}


# ---------------------------------------------------------------- class folders


def test_class_folders_become_a_single_label_dataset(home: Any, folders: Any) -> None:
    dataset = home.bring(folders(cat=4, dog=3))
    assert dataset.image_count == 7
    (labels_set,) = dataset.annotation_sets
    assert (labels_set.kind, labels_set.classes, labels_set.class_counts, labels_set.image_count) == (
        "single-label",
        ["cat", "dog"],
        [4, 3],
        7,
    )
    assert labels(home, dataset)["dog/2.png"] == "dog"
    assert home.findings(dataset) == []
    assert (dataset.median_width, dataset.median_height) == (32, 24)


def test_images_are_stored_as_they_came(home: Any, folders: Any) -> None:
    source = folders(cat=3)
    dataset = home.bring(source)
    for record in home.records(dataset):
        assert home.storage.read(record.key) == (source / record.path).read_bytes()


def test_numbered_classes_keep_their_natural_order(home: Any, folders: Any) -> None:
    dataset = home.bring(folders(**{str(number): 3 for number in range(12)}))
    assert dataset.annotation_sets[0].classes == [str(number) for number in range(12)]


def test_classes_take_turns_so_that_each_page_shows_all(home: Any, folders: Any) -> None:
    dataset = home.bring(folders(a=3, b=3))
    assert [record.path[0] for record in home.records(dataset)] == ["a", "b"] * 3


@pytest.mark.parametrize("prefix", ["", "pets/", "archive/pets/images/"])
def test_folders_around_the_classes_are_no_classes(home: Any, picture: Picture, tmp_path: Path, prefix: str) -> None:
    archive = zipped(
        tmp_path / "pets.zip", {f"{prefix}{name}/{n}.png": picture(hash((name, n)) % 99999) for name in ("cat", "dog") for n in range(3)}
    )
    dataset = home.bring(archive)
    assert dataset.annotation_sets[0].classes == ["cat", "dog"]


def test_one_class_alone_in_a_wrapping_folder(home: Any, picture: Picture, tmp_path: Path) -> None:
    dataset = home.bring(zipped(tmp_path / "a.zip", {f"cat/{n}.png": picture(n) for n in range(3)}))
    assert dataset.annotation_sets[0].classes == ["cat"]
    found = home.finding(dataset, "one-class")
    assert found.severity == "warning" and "“cat”: a model of it says the same of every image" in found.message and found.remedy


def test_splits_of_the_source_are_kept(home: Any, picture: Picture, tmp_path: Path) -> None:
    files = {
        f"root/{split}/{name}/{n}.png": picture(hash((split, name, n)) % 99999)
        for split in ("train", "valid", "test")
        for name in "ab"
        for n in range(3)
    }
    dataset = home.bring(zipped(tmp_path / "s.zip", files))
    assert dataset.annotation_sets[0].classes == ["a", "b"]
    assert {(record.path.split("/")[1], record.split) for record in home.records(dataset)} == {
        ("train", "train"),
        ("valid", "val"),
        ("test", "test"),
    }


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_tar_archives(home: Any, folders: Any, tmp_path: Path, mode: str) -> None:
    source = folders(cat=3, dog=3)
    with tarfile.open(tmp_path / "pets.archive", mode) as archive:
        archive.add(source, "pets")
    dataset = home.bring(tmp_path / "pets.archive")
    assert dataset.image_count == 6
    assert list((home.settings.cache / "imports").iterdir()) == [] if (home.settings.cache / "imports").exists() else True


def test_url_of_a_folder(home: Any, folders: Any) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    source = folders(cat=3, dog=3)
    for path in source.rglob("*.png"):
        memory.pipe(f"/bucket/pets/{path.relative_to(source)}", path.read_bytes())
    assert home.bring("memory://bucket/pets").image_count == 6


def test_names_in_any_script(home: Any, picture: Picture, tmp_path: Path) -> None:
    names = ["кошка", "犬", "كلب", "🐈‍⬛", "it's; DROP TABLE"]
    dataset = home.bring(
        zipped(tmp_path / "u.zip", {f"{name}/{n}.png": picture(hash((name, n)) % 99999) for name in names for n in range(3)}), name="データ"
    )
    assert sorted(dataset.annotation_sets[0].classes) == sorted(names)
    assert home.dataset("データ").id == dataset.id


# ---------------------------------------------------------------- what is noticed


def test_a_damaged_image_is_left_out_and_named(home: Any, folders: Any) -> None:
    source = folders(cat=4, dog=3)
    good = (source / "cat/0.png").read_bytes()
    (source / "cat/0.png").write_bytes(good[: len(good) // 2])
    dataset = home.bring(source)
    finding = home.finding(dataset, "damaged-image")
    assert (finding.severity, finding.file) == ("error", "cat/0.png")
    assert finding.remedy
    assert dataset.image_count == 6


def test_small_and_empty_classes_are_named(home: Any, folders: Any) -> None:
    source = folders(cat=3, dog=2)
    (source / "newt").mkdir()
    dataset = home.bring(source)
    assert "dog" in home.finding(dataset, "small-class").message
    assert home.finding(dataset, "empty-class").file == "newt"


def test_duplicates_by_content(home: Any, folders: Any) -> None:
    source = folders(cat=3, dog=3)
    (source / "cat/again.png").write_bytes((source / "cat/1.png").read_bytes())
    (source / "dog/other.png").write_bytes((source / "cat/2.png").read_bytes())
    dataset = home.bring(source)
    assert home.finding(dataset, "duplicate-image").file == "cat/again.png"
    assert home.finding(dataset, "duplicate-conflict").file == "dog/other.png"
    assert dataset.image_count == 8


def test_images_below_16_px_are_left_out(home: Any, folders: Any, picture: Picture) -> None:
    source = folders(cat=3)
    (source / "cat/tiny.png").write_bytes(picture(9, 15, 40))
    assert home.finding(home.bring(source), "too-small").file == "cat/tiny.png"


def test_images_above_4096_px_are_scaled_down(home: Any, folders: Any, picture: Picture) -> None:
    source = folders(cat=3)
    (source / "cat/wide.png").write_bytes(picture(9, 5000, 20))
    dataset = home.bring(source)
    assert home.finding(dataset, "scaled-down").severity == "warning"
    (wide,) = [record for record in home.records(dataset) if record.path == "cat/wide.png"]
    assert (wide.width, wide.height) == (4096, 16)


def test_pixel_bombs_are_left_out(home: Any, folders: Any, picture: Picture) -> None:
    home.settings.max_image_pixels = 10_000
    source = folders(cat=3)
    (source / "cat/bomb.png").write_bytes(picture(9, 200, 200))
    assert home.finding(home.bring(source), "too-many-pixels").file == "cat/bomb.png"


def test_strict_refuses_the_whole_and_leaves_nothing(home: Any, folders: Any) -> None:
    source = folders(cat=4, dog=4)
    (source / "cat/0.png").write_bytes(b"no image")
    with pytest.raises(StrictError) as caught:
        home.bring(source, strict=True)
    assert [finding.code for finding in caught.value.findings] == ["damaged-image"]
    assert home.leftovers() == []


# ---------------------------------------------------------------- what is refused


def test_refusals_are_typed_and_leave_nothing(home: Any, folders: Any, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    text = tmp_path / "notes.txt"
    text.write_text("no archive")
    broken = tmp_path / "broken.zip"
    broken.write_bytes(zipped(tmp_path / "good.zip", {"a/b.png": b"x" * 1000}).read_bytes()[:60])
    worthless = tmp_path / "worthless" / "cat"
    worthless.mkdir(parents=True)
    (worthless / "a.png").write_bytes(b"no image")
    for source, error in (
        (tmp_path / "nowhere", NotFoundError),
        (empty, BadDataError),
        (text, BadDataError),
        (broken, BadDataError),
        (worthless.parent, BadDataError),
    ):
        with pytest.raises(error) as caught:
            home.bring(source)
        assert caught.value.what
        assert caught.value.remedy
    with pytest.raises(InvalidInputError):
        home.bring(folders(cat=3), format="no-such")
    for name in ("", " ", "x" * 101, "a\x00b", "two\nlines"):
        with pytest.raises(InvalidInputError):
            home.bring(folders.__self__ if hasattr(folders, "__self__") else tmp_path / "source", name=name)
    assert home.leftovers() == []


def test_a_taken_name_is_refused(home: Any, folders: Any) -> None:
    source = folders(cat=3)
    home.bring(source)
    with pytest.raises(ConflictError):
        home.bring(source)


def test_a_zip_bomb_is_refused(home: Any, tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("cat/a.png", "w", force_zip64=True) as file:
        for _ in range(300):
            file.write(bytes(1_000_000))
    with pytest.raises(BadDataError, match="bomb"):
        home.bring(path)


def test_paths_out_of_the_archive_links_devices_and_archives_within_are_left_out(home: Any, picture: Picture, tmp_path: Path) -> None:
    path = tmp_path / "evil.tar"
    with tarfile.open(path, "w") as archive:
        for number in range(3):
            info = tarfile.TarInfo(f"cat/{number}.png")
            info.size = len(picture(number))
            archive.addfile(info, io.BytesIO(picture(number)))
        for name in ("../cat/out.png", "/cat/absolute.png", "cat/inner.zip"):
            info = tarfile.TarInfo(name)
            info.size = len(picture(7))
            archive.addfile(info, io.BytesIO(picture(7)))
        link = tarfile.TarInfo("cat/link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        device = tarfile.TarInfo("cat/device.png")
        device.type = tarfile.CHRTYPE
        archive.addfile(device)
    dataset = home.bring(path)
    assert dataset.image_count == 3
    assert sorted(home.codes(dataset)) == ["nested-archive", "not-a-file", "not-a-file", "one-class", "unsafe-path", "unsafe-path"]
    assert not (tmp_path / "cat").exists()


def test_links_in_folders_are_not_followed(home: Any, folders: Any, tmp_path: Path) -> None:
    source = folders(cat=3, dog=3)
    (tmp_path / "secret.png").write_bytes((source / "cat/0.png").read_bytes())
    (source / "cat/link.png").symlink_to(tmp_path / "secret.png")
    (source / "loop").symlink_to(source)
    dataset = home.bring(source)
    assert dataset.image_count == 6
    assert home.codes(dataset) == ["not-a-file", "not-a-file"]


def test_a_full_disk_is_one_clear_message(home: Any, folders: Any) -> None:
    home.storage.min_free_bytes = 1 << 60
    with pytest.raises(UnavailableError, match="no space"):
        home.bring(folders(cat=3))
    assert home.leftovers() == []


# ---------------------------------------------------------------- killed


def test_a_disk_so_full_that_the_database_cannot_write_is_freed_all_the_same(
    home: Any, folders: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_image, write_rows = image_store.write, Database.write
    full = False

    def until_full(storage: Any, key: str, data: bytes) -> None:
        nonlocal full
        if key.endswith("0000005.png"):
            full = True
            raise UnavailableError("There is no space left.", "Free some space.")
        write_image(storage, key, data)

    def rows(database: Database) -> Any:
        if full:
            raise UnavailableError("database or disk is full")
        return write_rows(database)

    monkeypatch.setattr(image_store, "write", until_full)
    monkeypatch.setattr(Database, "write", rows)
    with pytest.raises(UnavailableError, match="no space"):
        home.bring(folders(cat=9))
    assert home.leftovers() == []


def test_a_killed_import_leaves_nothing_and_can_be_run_again(home: Any, tmp_path: Path, picture: Picture) -> None:
    source = tmp_path / "many" / "cat"
    source.mkdir(parents=True)
    for number in range(1500):
        (source / f"{number}.png").write_bytes(picture(number, 64, 64))
    code = (
        "import os, signal, sys; from core.settings import Settings; from core.db.session import Database; from core.storage import Storage\n"
        "from core.datasets.importing import import_dataset\n"
        "s = Settings(home=sys.argv[1], min_free_bytes=0)\n"
        "import_dataset(Database.of(s), Storage.of(s), s, workspace='default', person='p', name='set', source=sys.argv[2],\n"
        "    progress=lambda done, total: done < 1100 or os.kill(os.getpid(), signal.SIGKILL))"
    )
    child = subprocess.run([sys.executable, "-c", code, str(home.settings.home), str(source.parent)], check=False)
    assert child.returncode == -signal.SIGKILL
    with home.database.read() as session:
        assert list_datasets(session, "default") == ([], 0)
        assert session.scalars(select(Dataset.state)).all() == ["importing"]
    assert home.leftovers()
    dataset = home.bring(source.parent)
    assert dataset.image_count == 1500
    with home.database.read() as session:
        assert session.scalars(select(Dataset.id)).all() == [dataset.id]
        assert len(session.scalars(select(DatasetImage.position)).all()) == 1500
    assert {key.split("/")[1] for key in home.leftovers()} == {dataset.id}


def test_an_import_that_lives_is_not_swept(home: Any, folders: Any) -> None:
    source, other = folders(cat=3), folders("other", dog=3)
    during: list[int] = []

    def meanwhile(done: int, total: int) -> None:
        if not during:
            during.append(home.bring(other, name="other").image_count)

    assert home.bring(source, progress=meanwhile).image_count == 3
    assert during == [3]
    assert len({key.split("/")[1] for key in home.leftovers()}) == 2


def test_importing_the_digits_takes_a_few_times_their_decoding(home: Any, tmp_path: Path) -> None:
    """About six times their decoding's processor time, for they are tiny: machines differ, and have other work, so no seconds are named."""
    from core.datasets.samples import write_sample

    source = write_sample("digits", tmp_path / "digits")
    began = time.process_time()
    for path in source.rglob("*.png"):
        with Image.open(path) as image:
            image.load()
    bare = time.process_time() - began
    began = time.process_time()
    dataset = home.bring(source)
    assert time.process_time() - began < 20 * bare
    assert dataset.annotation_sets[0].class_counts == [500] * 10


def test_another_database_sees_the_same(home: Any, folders: Any) -> None:
    dataset = home.bring(folders(cat=3))
    with Database.of(home.settings).read() as session:
        assert [one.id for one in list_datasets(session, "default")[0]] == [dataset.id]


def test_many_images_are_decoded_by_processes_that_may_die(
    home: Any, tmp_path: Path, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = zipped(tmp_path / "many.zip", {f"{'ab'[n % 2]}/{n}.png": picture(n, 20, 18) if n != 7 else b"no image" for n in range(330)})
    monkeypatch.setattr(decoding, "usable_cores", lambda: 2)
    send = decoding._Child._send
    sent = itertools.count()

    def die_once(child: Any, data: bytes) -> None:
        send(child, data)
        if next(sent) == 5:
            child._process.kill()

    monkeypatch.setattr(decoding._Child, "_send", die_once)
    dataset = home.bring(archive)
    assert [finding.file for finding in home.findings(dataset)] == ["b/7.png"]
    records = home.records(dataset)
    assert len(records) == 329 and [record.position for record in records] == list(range(329))
    for record in records[::50]:
        assert home.storage.read(record.key) == picture(int(record.path[2:-4]), 20, 18)


def test_an_image_that_ends_its_process_is_left_out(home: Any, tmp_path: Path, picture: Picture, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = zipped(tmp_path / "many.zip", {f"a/{n}.png": picture(n, 20, 18) for n in range(310)})
    monkeypatch.setattr(decoding, "usable_cores", lambda: 2)
    ask = decoding._Child._ask

    def crash(child: Any, batch: Any) -> Any:
        if any(image.path == "a/100.png" for _, image in batch):
            child._process.kill()
            child._process.wait()
        return ask(child, batch)

    monkeypatch.setattr(decoding._Child, "_ask", crash)
    dataset = home.bring(archive)
    assert dataset.image_count == 309
    assert home.finding(dataset, "damaged-image").file == "a/100.png"


def test_sources_in_memory_are_decoded_where_the_memory_is(home: Any, picture: Picture, monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    for number in range(310):
        memory.pipe(f"/bucket/many/{'ab'[number % 2]}/{number}.png", picture(number, 20, 18))
    monkeypatch.setattr(decoding, "usable_cores", lambda: 2)
    assert home.bring("memory://bucket/many").image_count == 310


def test_a_killed_import_of_a_packed_archive_leaves_no_copy_of_it(home: Any, tmp_path: Path, picture: Picture) -> None:
    source = tmp_path / "cat"
    source.mkdir()
    for number in range(3):
        (source / f"{number}.png").write_bytes(picture(number))
    with tarfile.open(tmp_path / "pets.tar.gz", "w:gz") as archive:
        archive.add(source, "cat")
    code = (
        "import os, sys, signal; from core.settings import Settings; from core.datasets.findings import Findings\n"
        "from core.datasets.sources.opening import open_source\n"
        "with open_source(sys.argv[2], Settings(home=sys.argv[1], min_free_bytes=0), Findings()): os.kill(os.getpid(), signal.SIGKILL)"
    )
    child = subprocess.run([sys.executable, "-c", code, str(home.settings.home), str(tmp_path / "pets.tar.gz")], check=False)
    scratch = home.settings.cache / "imports"
    assert child.returncode == -signal.SIGKILL and len(list(scratch.iterdir())) == 1
    assert home.bring(tmp_path / "pets.tar.gz").image_count == 3
    assert list(scratch.iterdir()) == []


@pytest.mark.long
@pytest.mark.parametrize("after", [0.3, 0.8, 1.2, 1.5, 1.8, 2.1, 2.4, 2.8, 3.3, 4.0])
def test_killed_at_any_moment_it_is_there_whole_or_not_at_all(home: Any, tmp_path: Path, picture: Picture, after: float) -> None:
    source = tmp_path / "many" / "cat"
    source.mkdir(parents=True)
    for number in range(1200):
        (source / f"{number}.png").write_bytes(picture(number, 64, 64))
    code = (
        "import sys; from core.settings import Settings; from core.db.session import Database; from core.storage import Storage\n"
        "from core.datasets.importing import import_dataset\n"
        "s = Settings(home=sys.argv[1], min_free_bytes=0)\n"
        "import_dataset(Database.of(s), Storage.of(s), s, workspace='default', person='p', name='set', source=sys.argv[2])"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(home.settings.home), str(source.parent)])
    time.sleep(after)
    child.kill()
    child.wait()
    with home.database.read() as session:
        found, _ = list_datasets(session, "default")
    assert [one.image_count for one in found] in ([], [1200])
    sweeping.sweep(home.database, home.storage, home.settings)
    with home.database.read() as session:
        assert session.scalars(select(Dataset.id)).all() == [one.id for one in found]
        assert len(session.scalars(select(DatasetImage.position)).all()) == 1200 * len(found)
    assert {key.split("/")[1] for key in home.leftovers()} == {one.id for one in found}
    if not found:
        assert home.bring(source.parent).image_count == 1200


def test_nothing_named_is_not_the_current_folder(home: Any, folders: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folders(cat=3))
    with pytest.raises(InvalidInputError, match="Nothing was named"):
        home.bring("")


# ---------------------------------------------------------------- limits


def test_limits_of_the_settings(home: Any, folders: Any, tmp_path: Path, picture: Picture) -> None:
    source = folders(cat=4)
    archive = zipped(tmp_path / "large.zip", {f"cat/{n}.png": picture(n) for n in range(4)})
    home.settings.max_images = 3
    with pytest.raises(BadDataError, match="more than 3 images") as caught:
        home.bring(source)
    assert "STATIONMASTER_MAX_IMAGES" in caught.value.remedy
    home.settings.max_images, home.settings.max_archive_bytes = 100, 1000
    with pytest.raises(BadDataError, match="more than the 1,000 allowed") as caught:
        home.bring(archive)
    assert "STATIONMASTER_MAX_ARCHIVE_BYTES" in caught.value.remedy
    assert home.leftovers() == []


def test_a_tar_that_unpacks_out_of_all_proportion_is_refused(home: Any, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "bomb.tar.gz", "w:gz") as archive:
        info = tarfile.TarInfo("cat/a.png")
        info.size = 300_000_000
        archive.addfile(info, _Zeros(info.size))
    with pytest.raises(BadDataError, match="bomb"):
        home.bring(tmp_path / "bomb.tar.gz")
    assert list((home.settings.cache / "imports").iterdir()) == []


class _Zeros(io.RawIOBase):
    """So many bytes of nothing, never held in memory."""

    def __init__(self, size: int) -> None:
        self._left = size

    def read(self, size: int = -1) -> bytes:
        size = min(self._left, size)
        self._left -= size
        return bytes(size)


def test_a_link_in_a_zip_and_a_pipe_in_a_folder_are_left_out(home: Any, folders: Any, tmp_path: Path, picture: Picture) -> None:
    path = zipped(tmp_path / "link.zip", {f"cat/{n}.png": picture(n) for n in range(3)})
    with zipfile.ZipFile(path, "a") as archive:
        link = zipfile.ZipInfo("cat/link.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    assert home.finding(home.bring(path, "zip"), "not-a-file").file == "cat/link.png"
    source = folders(cat=3)
    os.mkfifo(source / "cat" / "pipe.png")  # opened, it would never end
    assert home.finding(home.bring(source, "folder"), "not-a-file").file == "cat/pipe.png"


def test_a_mask_far_larger_than_its_image_is_never_decoded_beside_it(home: Any, tmp_path: Path, picture: Picture) -> None:
    """Masks are measured before they are decoded: a picture of a few kilobytes may be of hundreds of megabytes."""
    for name in ("images", "masks"):
        (tmp_path / "in" / name).mkdir(parents=True)
    for number in range(3):
        (tmp_path / "in/images" / f"{number}.png").write_bytes(picture(number))
        mask = Image.new("L", (32, 24) if number else (12_000, 12_000))
        mask.paste(1, (4, 4, 20, 20))
        mask.save(tmp_path / "in/masks" / f"{number}.png")
    code = (
        "import re, sys; from core.settings import Settings; from core.db.session import Database; from core.storage import Storage\n"
        "from core.datasets.importing import import_dataset\n"
        "s = Settings(home=sys.argv[1], min_free_bytes=0)\n"
        "d = import_dataset(Database.of(s), Storage.of(s), s, workspace='default', person='p', name='set', source=sys.argv[2])\n"
        # Not getrusage's: that of a child is at least its parent's, in which torch may have been loaded.
        "print(d.annotation_sets[0].image_count, int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]) // 1024)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(home.settings.home), str(tmp_path / "in")], capture_output=True, text=True, check=True
    )
    images, megabytes = map(int, done.stdout.split())
    assert images == 2 and megabytes < 500
    assert home.finding(home.dataset(), "mask-size").file == "masks/0.png"
