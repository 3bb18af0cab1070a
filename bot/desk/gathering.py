"""What a message carries as one archive: the archive among its files, or all of them put into one."""

import zipfile
from pathlib import Path, PurePath

from bot.desk.reply import Upload

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


def is_archive_name(name: str) -> bool:
    """Whether a file of that name is one that a dataset can be in."""
    return name.lower().endswith(ARCHIVES)


def one_archive(uploads: tuple[Upload, ...], folder: Path) -> Upload:
    """The first archive of the files (at least one), else a zip of all of them, made in `folder`."""
    archive = next((upload for upload in uploads if is_archive_name(upload.name)), None)
    if archive is not None:
        return archive
    path = folder / "images.zip"
    taken: set[str] = set()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as packed:
        for number, upload in enumerate(uploads):
            name = PurePath(upload.name).name or "image"
            packed.write(upload.path, f"{number}-{name}" if name in taken else name)
            taken.add(name)
    return Upload(f"{PurePath(uploads[0].name).stem or 'images'}.zip", path)
