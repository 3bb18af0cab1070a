"""What of a source is taken in: members under the limits of the settings, their names not trusted.

Members are read one by one, never unpacked under names of theirs. Symbolic links, device files, absolute paths and `..` are
left out with a finding.
"""

from dataclasses import dataclass, field
from pathlib import PurePosixPath

from core.datasets.findings import Findings
from core.datasets.source import Member
from core.errors import BadDataError
from core.settings import Settings

_ARCHIVE_SUFFIXES = (".zip", ".tar", ".tgz", ".tbz2", ".tbz", ".tar.bz2", ".txz", ".tar.xz", ".tar.zst", ".tzst", ".7z", ".rar", ".gz")

# What operating systems leave behind in folders; nobody wants to hear of them.
_LITTER = frozenset({".ds_store", "thumbs.db", "desktop.ini", "__macosx", ".git", ".svn", ".ipynb_checkpoints", "@eadir"})


def is_litter(path: str) -> bool:
    """Whether an operating system or a tool left the file there, for itself."""
    return any(part.lower() in _LITTER or part.startswith("._") for part in path.split("/"))


def _unsafe(name: str) -> str:
    """Why a member's name cannot be trusted, or nothing."""
    path = name.replace("\\", "/")
    if path.startswith("/") or (len(path) > 1 and path[1] == ":" and path[0].isalpha()):
        return "is an absolute path"
    if ".." in path.split("/"):
        return "leads out of the archive with `..`"
    if any(ord(character) < 32 for character in path):
        return "holds control characters"
    return ""


@dataclass
class Inventory:
    """Members and folders gathered under the limits of the settings."""

    name: str
    settings: Settings
    findings: Findings
    members: dict[str, Member] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)
    total: int = 0

    def add_folder(self, name: str) -> None:
        """Take a folder in."""
        if name and not _unsafe(name) and not is_litter(name):
            self.folders.add(name.strip("/"))

    def add(self, name: str, size: int, *, regular: bool = True) -> str:
        """Take a file in; its path, or nothing where it is left out."""
        shown = name.encode("utf-8", "replace").decode()
        why = _unsafe(name)
        if why:
            self.findings.error("unsafe-path", shown, f"The name {why}.", "Pack the archive anew with paths relative to its root.")
            return ""
        path = str(PurePosixPath(name.replace("\\", "/")))
        if is_litter(path) or path == ".":
            return ""
        if not regular:
            self.findings.error(
                "not-a-file", shown, "It is a link or a device, not a file; links are never followed.", "Put the file itself in its place."
            )
            return ""
        if path.lower().endswith(_ARCHIVE_SUFFIXES) and not path.lower().endswith(".nii.gz"):
            self.findings.error(
                "nested-archive",
                shown,
                "An archive within the source is not opened.",
                "Unpack it first, or import it as a dataset of its own.",
            )
            return ""
        if path in self.members:
            self.findings.error(
                "duplicate-name", shown, "The archive holds this name twice; the first one counts.", "Pack the archive anew."
            )
            return ""
        self.total += size
        if len(self.members) >= self.settings.max_images * 3:
            raise BadDataError(
                f"{self.name} holds more than {self.settings.max_images * 3:,} files.",
                "Split it into several datasets, or raise STATIONMASTER_MAX_IMAGES.",
            )
        self.members[path] = Member(path, size)
        return path

    def parents(self) -> set[str]:
        """The folders, those among them that only the members' paths tell of."""
        return self.folders | {str(parent) for path in self.members for parent in PurePosixPath(path).parents if str(parent) != "."}
