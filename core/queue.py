"""What is enqueued, where and under which id: RQ over Redis or the embedded Valkey."""

import hashlib
import os
from pathlib import Path

from core.settings import Settings

# A unix socket's address has room for 108 bytes, the closing zero included (104 on macOS); the server's own temporary names are as long.
SOCKET_PATH_BYTES = 100


def valkey_socket(settings: Settings) -> Path:
    """Where the embedded Valkey of this home listens; the same for every process that has the same `home`.

    `home/valkey/valkey.sock`, or where that path is too long for a socket, a name made from it in a folder of the user's in `/tmp`
    (not in TMPDIR, which differs between a shell and a service). Both folders are private: whoever may write to the socket rules the queue.
    """
    folder = settings.home.expanduser().absolute() / "valkey"
    path = folder / "valkey.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_BYTES:
        return path
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    return Path(f"/tmp/stationmaster-{os.getuid()}/{digest}.sock")  # noqa: S108 (the server checks that the folder is ours)
