"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write_whole(path, content):
    """Put bytes into a file so that the name never shows a part of them, whatever happens on the way.

    Written under another name in the same directory, synced, renamed, and the directory synced. On any error the
    other name is removed and what stood under `path` before is untouched.
    """
    path = Path(os.path.realpath(path))
    other = path.with_name(f".{path.name[:100]}.{secrets.token_hex(8)}.tmp")
    try:
        with open(other, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(other, path)
    except BaseException:
        other.unlink(missing_ok=True)
        raise
    if os.name == "posix":  # elsewhere a directory cannot be opened
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
