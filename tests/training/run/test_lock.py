"""One process at a time: who holds a workdir, and when nobody does."""

import fcntl
import json
import os
import shutil
import socket
import subprocess
import sys
import textwrap
import threading

import pytest

from rljax.training.run.lock import DEAD_SECONDS, LOCK_FILE, check_there, locked

pytestmark = pytest.mark.contract


def fake_lock(workdir, *, host: str, pid: int = 2**22 + 1, age: float = 0.0) -> None:
    """A lock file without the system's lock: its process was killed, or runs elsewhere."""
    path = workdir / LOCK_FILE
    path.write_text(json.dumps({"pid": pid, "host": host, "started": "2026-01-02 03:04:05"}))
    when = path.stat().st_mtime - age
    os.utime(path, (when, when))


def test_a_second_one_is_refused_and_names_the_first(tmp_path):
    with locked(tmp_path):
        with pytest.raises(ValueError, match="is in use by process") as caught:
            with locked(tmp_path):
                pass
        text = str(caught.value)
        assert f"process {os.getpid()} on {socket.gethostname()}, started 20" in text
        assert str(tmp_path) in text and "--workdir" in text
    assert not list(tmp_path.iterdir())
    with locked(tmp_path):  # it is free again
        pass


def test_a_killed_process_of_this_host_leaves_no_lock(tmp_path):
    for pid in (2**22 + 1, os.getpid()):  # a container may count from 1 again
        fake_lock(tmp_path, host=socket.gethostname(), pid=pid)
        with locked(tmp_path):
            assert json.loads((tmp_path / LOCK_FILE).read_text())["pid"] == os.getpid()


def test_another_host_is_alive_as_long_as_it_renews_the_file(tmp_path):
    fake_lock(tmp_path, host="elsewhere", age=DEAD_SECONDS - 10)
    before = (tmp_path / LOCK_FILE).read_bytes()
    with pytest.raises(ValueError, match="on elsewhere, started 2026-01-02.*after 60 s"):
        with locked(tmp_path):
            pass
    assert (tmp_path / LOCK_FILE).read_bytes() == before
    fake_lock(tmp_path, host="elsewhere", age=DEAD_SECONDS + 10)
    with locked(tmp_path):
        pass


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"pid": "x"}'])
def test_a_half_written_lock_file_is_no_obstacle(content, tmp_path):
    (tmp_path / LOCK_FILE).write_text(content)
    with locked(tmp_path):
        pass


# The child outlives its parent: of os.fork, or of a program that it starts.
ORPHAN = """
import os, subprocess, sys, time
from pathlib import Path
from rljax.training.run.lock import locked
workdir = Path(sys.argv[1])
with locked(workdir):
    if sys.argv[2] == "fork":
        if os.fork() == 0:
            time.sleep(20)
            os._exit(0)
    else:
        subprocess.Popen(["sleep", "20"])
    os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("how", ["fork", "exec"])
def test_a_child_that_outlives_its_process_holds_no_lock(how, tmp_path):
    command = [sys.executable, "-c", textwrap.dedent(ORPHAN), str(tmp_path), how]
    quiet = dict(stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert subprocess.run(command, **quiet).returncode == -9
    with locked(tmp_path):
        pass


def test_a_dead_process_whose_child_still_lets_go_is_waited_for(tmp_path):
    """A process that dies right after os.fork: its child closes the lock a moment later."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    owner = {"pid": dead.pid, "host": socket.gethostname(), "started": "now"}
    path = tmp_path / LOCK_FILE
    path.write_text(json.dumps(owner))
    handle = os.open(path, os.O_RDWR)
    fcntl.flock(handle, fcntl.LOCK_EX)
    timer = threading.Timer(0.3, os.close, [handle])
    timer.start()
    with locked(tmp_path):
        assert json.loads(path.read_text())["pid"] == os.getpid()
    timer.join()


@pytest.mark.parametrize("how", ["moved", "removed", "replaced"])
def test_a_workdir_that_vanishes_is_noticed(tmp_path, how):
    """By its name a new folder would be made, with a part of the run in it."""
    workdir = tmp_path / "run"
    workdir.mkdir()
    check_there(workdir)  # not locked here
    with locked(workdir):
        check_there(workdir)
        if how == "removed":
            shutil.rmtree(workdir)
        else:
            workdir.rename(tmp_path / "elsewhere")
        if how == "replaced":
            workdir.mkdir()
            (workdir / LOCK_FILE).write_text("")
        with pytest.raises(ValueError, match="no longer the folder .*Put it back.*--workdir"):
            check_there(workdir)
        check_there(tmp_path / "other")
