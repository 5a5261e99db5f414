"""Files appear whole or not at all: odd places, failing disks, killed processes."""

import errno
import os
import signal
import stat
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import unchanged
from test_io import chain, images, is_same, run, trained

import numbanet as nn
from numbanet.io import files

NOBODY = 65534  # the user and the group of that name


def fail(problem):
    def failing(*arguments, **more):
        raise problem

    return failing


# -- names of files


def test_kinds_of_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    model = trained(chain)
    longest = "\U0001f9e0" * 63  # 252 bytes of the 255 that a name may have
    for path in (str(tmp_path / "a"), tmp_path / "b", "c", Path("sub") / "d", b"e", "with space é", ".hidden", longest):
        model.save(path)
        is_same(model, nn.load(path))
    assert sorted(os.listdir(tmp_path)) == sorted(["a", "b", "c", "e", "sub", "with space é", ".hidden", longest])
    assert os.listdir("sub") == ["d"]
    for wrong in (None, 3):
        for call in (model.save, nn.load):
            with pytest.raises(TypeError, match="expected str, bytes or"):
                call(wrong)


def test_saving_over_a_file(tmp_path):
    """The new model replaces what was there, whatever it was; links are followed and permissions stay."""
    (tmp_path / "real").write_bytes(b"x" * 100_000)
    (tmp_path / "real").chmod(0o600)
    (tmp_path / "link").symlink_to("real")
    for model in (trained(images), trained(chain), trained(chain, optimizer=None)):
        model.save(tmp_path / "link")
        is_same(model, nn.load(tmp_path / "real"))
    assert (tmp_path / "link").is_symlink()
    assert stat.S_IMODE((tmp_path / "real").stat().st_mode) == 0o600
    assert sorted(os.listdir(tmp_path)) == ["link", "real"]


@pytest.mark.parametrize("where", ["missing/m", "file/m", "", "directory", "pipe", "n" * 256])
def test_places_where_no_file_can_be(tmp_path, monkeypatch, where):
    monkeypatch.chdir(tmp_path)
    Path("file").write_bytes(b"content")
    Path("directory").mkdir()
    os.mkfifo("pipe")
    for call in (chain("float32").save, nn.load):
        with pytest.raises(OSError) as caught:
            call(where)
        assert str(caught.value).endswith(f": {where!r}")
        assert caught.value.errno in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.ENAMETOOLONG)
    assert sorted(os.listdir()) == ["directory", "file", "pipe"]
    assert Path("pipe").is_fifo()


def test_devices_are_not_replaced(monkeypatch):
    """Renaming over /dev/null would break the whole system for a privileged user."""
    monkeypatch.setattr(files.os, "replace", fail(AssertionError("a device would have been replaced")))
    with pytest.raises(OSError, match="expected a file: '/dev/null'"):
        files.write_whole("/dev/null", b"")
    assert Path("/dev/null").is_char_device()


@contextmanager
def as_nobody(folder):
    """Permissions do not stop the superuser, who becomes somebody else meanwhile; others stay who they are."""
    if os.geteuid() != 0:
        yield
        return
    os.chown(folder, NOBODY, NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_directory_without_permission():
    model = chain("float32")
    with tempfile.TemporaryDirectory() as folder:  # pytest's own stand in a directory that only their user may enter
        os.chmod(folder, 0o500)
        with as_nobody(folder), pytest.raises(PermissionError, match="model"):
            model.save(Path(folder, "model"))
        assert os.listdir(folder) == []
        os.chmod(folder, 0o700)


# -- whole or not at all


def half_written(path, mode):
    """A file on a disk that is full after half of the content."""
    file = open(path, mode)  # noqa: SIM115
    write = file.write

    class Half:
        def write(self, content):
            write(content[: len(content) // 2])
            raise FULL

        def __enter__(self):
            return self

        def __exit__(self, *exception):
            file.close()

    return Half()


FULL = OSError(errno.ENOSPC, "No space left on device")


FAILING = [
    (files, "open", fail(FULL)),
    (files, "open", half_written),
    (files.os, "fsync", fail(FULL)),
    (files.os, "replace", fail(FULL)),
    (files.os, "fsync", fail(KeyboardInterrupt())),
]


@pytest.mark.parametrize(
    ("module", "step", "failing", "exists"),
    [(*step, exists) for step in FAILING for exists in (True, False)]
    + [(files.shutil, "copymode", fail(FULL), True)],  # there is a mode to copy only where a file is replaced
)
def test_a_failing_save_leaves_all_as_it_was(tmp_path, monkeypatch, same, module, step, failing, exists):
    model, target = trained(images), tmp_path / "model"
    if exists:
        trained(chain).save(target)
    before, content = unchanged(model), {path: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(module, step, failing, raising=False)
    with pytest.raises((OSError, KeyboardInterrupt)) as caught:
        model.save(target)
    monkeypatch.undo()
    if caught.type is OSError:
        assert str(caught.value) == f"[Errno {errno.ENOSPC}] No space left on device: {str(target)!r}"
    same(before, unchanged(model))
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == content
    model.save(target)
    is_same(model, nn.load(target))


def test_order_of_steps(tmp_path, monkeypatch):
    """All bytes are on the disk before the name is, and the name before save returns: else a power cut loses them."""
    steps, sync, replace = [], os.fsync, os.replace

    def recorded_sync(handle):
        found = os.fstat(handle)
        steps.append("directory" if stat.S_ISDIR(found.st_mode) else f"file of {found.st_size} bytes")
        sync(handle)

    def recorded_replace(source, target):
        assert Path(source).parent == Path(target).parent
        steps.append("rename")
        replace(source, target)

    monkeypatch.setattr(files.os, "fsync", recorded_sync)
    monkeypatch.setattr(files.os, "replace", recorded_replace)
    trained(chain).save(tmp_path / "model")
    assert steps == [f"file of {(tmp_path / 'model').stat().st_size} bytes", "rename", "directory"]


FULL_DISK = """
import resource, sys, numbanet as nn
model = nn.Sequential([nn.Input(100), nn.Dense(100)], seed=1)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    model.save(sys.argv[1])
except OSError as problem:
    print(problem)
"""


def test_full_disk(tmp_path):
    """The kernel's own limit on the size of files stands in for a disk that is full."""
    model = trained(chain)
    model.save(tmp_path / "model")
    expected = f"[Errno {errno.EFBIG}] {os.strerror(errno.EFBIG)}: {str(tmp_path / 'model')!r}"
    assert run(FULL_DISK, tmp_path / "model") == expected
    is_same(model, nn.load(tmp_path / "model"))
    assert os.listdir(tmp_path) == ["model"]


KILLED = """
import os, random, signal, sys, time, numbanet as nn
folder, target, random = sys.argv[1], sys.argv[1] + "/model", random.Random(0)
models = [nn.Sequential([nn.Input(500), nn.Dense(500)], seed=seed, dtype="float64") for seed in (1, 2)]
models[0].save(target)
expected = [model.get_weights()[0].tobytes() for model in models]
kills = interrupted = 0
while kills < 12 or (interrupted < 3 and kills < 60):
    child = os.fork()
    while not child:
        for model in models:
            model.save(target)
    time.sleep(random.uniform(0, 0.03))
    os.kill(child, signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    kills += 1
    rest = [name for name in os.listdir(folder) if name != "model"]
    interrupted += bool(rest)
    for name in rest:
        assert name.startswith(".model.") and name.endswith(".tmp"), name
        os.unlink(f"{folder}/{name}")
    model = nn.load(target)
    assert model.get_weights()[0].tobytes() == expected[model.seed - 1]
print(interrupted >= 3)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL") or not hasattr(os, "fork"), reason="needs POSIX")
def test_kill_during_save(tmp_path):
    """Children that save two models in turn over one file are killed: it always holds one of the two, whole."""
    assert run(KILLED, tmp_path) == "True"
