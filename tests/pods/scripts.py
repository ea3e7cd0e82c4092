"""What the tests of all launchers have in common."""

import stat
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TRAIN = ["launch/train.py", "--config=configs/quickstart.py", "--workdir=/runs/one"]


def environment_after(script, environ, tmp_path):
    """The calls of Python in a script: the words of each, and the environment of the last."""
    calls = tmp_path / "calls"
    fake = executable(
        tmp_path / "bin/python",
        f'printf "%s\\n" "$*" >> {calls}\nenv -0 > {tmp_path}/environ\nexit ${{FAIL:-0}}',
    )
    executable(tmp_path / "bin/python3", f'exec {fake} "$@"')
    path = f"{tmp_path}/bin:/usr/bin:/bin"
    calls.unlink(missing_ok=True)
    done = subprocess.run(
        ["/bin/sh", "-c", script], env={"PATH": path, **environ}, capture_output=True, cwd=tmp_path
    )
    said = calls.read_text().splitlines() if calls.exists() else []
    raw = (tmp_path / "environ").read_text() if said else ""
    found = dict(line.split("=", 1) for line in raw.split("\0") if line)
    return said, found, done


def executable(path, body):
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def refused(make, message):
    """Checks that a call raises ValueError with a message of one line."""
    with pytest.raises(ValueError, match=message) as error:
        make()
    assert "\n" not in str(error.value)
