"""Class folders: an image lies in the folder of its label."""

from core.datasets.records import Record
from core.datasets.writers.export import Export, named_images
from core.datasets.writers.output import Output, safe_part


def write(export: Export, out: Output) -> None:
    """Write all images."""
    folders: list[str] = []
    for name in export.classes:
        folder = safe_part(name)
        while folder.casefold() in {other.casefold() for other in folders}:
            folder += "_"
        if folder != name:
            export.losses["classes have names that no folder can bear, and are called otherwise"] += 1
        folders.append(folder)
    splits = export.has_splits()

    def place(record: Record) -> str:
        folder = folders[record.value["label"]]
        return f"{record.split or 'train'}/{folder}" if splits else folder

    for record, path in named_images(export, place):
        out.write(path, export.read(record))
        export.progress()
