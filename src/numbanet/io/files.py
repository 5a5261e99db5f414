"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat


def need_regular(path):
    """OSError if the path names a directory, a device or a pipe, or nothing at all."""
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        kind = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
        raise OSError(kind, "a directory, a device or a pipe, expected a file", path)


def write_whole(path, content):
    """Put bytes into a file so that the name never shows a part of them, whatever happens on the way.

    Written under another name in the same directory, synced, renamed, and the directory synced. On any error the
    other name is removed and what stood under `path` before is untouched; the error names `path`.
    """
    target = os.path.realpath(os.fsdecode(path))
    directory, name = os.path.split(target)
    other = os.path.join(directory, f".{name[:40]}.{secrets.token_hex(8)}.tmp")  # 40: names have at most 255 bytes
    try:
        _write_and_rename(target, other, content)
    except BaseException as problem:
        with contextlib.suppress(OSError):
            os.unlink(other)
        if isinstance(problem, OSError) and problem.errno:
            raise OSError(problem.errno, problem.strerror, os.fsdecode(path)) from None
        raise
    if os.name == "posix":  # elsewhere a directory cannot be opened
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _write_and_rename(target, other, content):
    if os.path.lexists(target):
        need_regular(target)
    with open(other, "xb") as file:
        if os.path.lexists(target):
            shutil.copymode(target, other)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(other, target)
