"""Real processes, started by launch/hosts.py: how they begin, and how all end when one fails."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SMALL = Path(__file__).parent / "small_run.py"


def command(workdir, what, *, devices=1, wait=30, extra=()):
    hosts = ["launch/hosts.py", "--processes=2", f"--devices={devices}", f"--wait-seconds={wait}"]
    return [sys.executable, *hosts, "--", str(SMALL), str(workdir), what, *extra]


def environment():
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def small_run(workdir, what, **options):
    done = subprocess.run(
        command(workdir, what, **options),
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stdout, done.stderr


def stacks(workdir):
    return sorted(path.name for path in (workdir / "stacks").glob("*"))


def test_two_processes_begin_and_end_together(tmp_path):
    status, out, err = small_run(tmp_path, "none")
    assert status == 0, err
    lines = out.splitlines()
    assert "[0] process 0 of 2 found no device" in lines
    assert "[1] process 1 of 2 found no device" in lines
    assert sum("note: said by all" in line for line in lines) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("who", [0, 1])
def test_a_process_that_is_killed_ends_the_other_one(tmp_path, who):
    status, _, err = small_run(tmp_path, f"kill:{who}")
    other = 1 - who
    assert status == 75 and f"process {who} was killed by SIGKILL" in err
    assert f"process {other} ended with 75; exit status 75" in err or who == 1
    assert f"[{other}] process {who} on " in err and "ended first: lost: " in err
    assert stacks(tmp_path) == [f"process-{other}.txt"]
    assert "in body" in (tmp_path / f"stacks/process-{other}.txt").read_text()


def test_a_process_that_hangs_is_found_and_all_stacks_are_written(tmp_path):
    status, _, err = small_run(tmp_path, "hang:1")
    assert status == 75 and "hung: 'step 3' has taken" in err
    assert stacks(tmp_path) == ["process-0.txt", "process-1.txt"]
    assert "in fault" in (tmp_path / "stacks/process-1.txt").read_text()
    assert "[1]" in err and "in fault" in err


def test_a_process_that_is_frozen_is_lost_and_does_not_stay(tmp_path):
    status, _, err = small_run(tmp_path, "stop:1", wait=1)
    assert status == 75 and "ended first: lost: no sign of life" in err
    assert "process 0 ended with 75; process 1 was killed by SIGKILL" in err


def test_an_error_of_the_user_is_that_of_all(tmp_path):
    status, _, err = small_run(tmp_path, "error:1")
    assert status == 1 and "[1] error: bad thing (config.thing)\n" in err
    assert "ended first: error: bad thing (config.thing)\n" in err
    assert err.count("bad thing") == 2 and "Traceback" not in err
    assert "process 0 ended with 1; process 1 ended with 1" in err
    assert stacks(tmp_path) == []


def test_processes_that_differ_say_so_once(tmp_path):
    status, _, err = small_run(tmp_path, "config:1")
    assert status == 1 and err.count("error: The processes do not fit together: config.seed: ") == 1
    assert list(tmp_path.iterdir()) == []


def test_sigterm_to_one_stops_all_at_the_same_step(tmp_path):
    status, out, err = small_run(tmp_path, "sigterm:1")
    assert status == 143, err
    stopped = [line.partition("] ")[2] for line in out.splitlines() if "stopped" in line]
    assert len(stopped) == 2 and len(set(stopped)) == 1


def children(pid):
    """The processes that another one has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[1] == str(pid) and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks the kernel of Linux")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_outlives_the_launcher(tmp_path, number):
    started = subprocess.Popen(
        command(tmp_path, "hang:9"), cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL
    )
    until = time.monotonic() + 30
    while len(pids := children(started.pid)) < 2 and time.monotonic() < until:
        time.sleep(0.02)
    assert len(pids) == 2
    started.send_signal(number)
    started.wait(30)
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < until:
        time.sleep(0.02)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


@pytest.mark.slow
def test_two_processes_with_jax_add_up(tmp_path):
    status, out, err = small_run(tmp_path, "none", devices=2, extra=["jax"])
    assert status == 0, err
    assert {"[0] process 0 of 2 found 4.0", "[1] process 1 of 2 found 4.0"} <= set(out.splitlines())


@pytest.mark.slow
@pytest.mark.parametrize("who", [0, 1])
def test_a_process_that_dies_in_a_collective(tmp_path, who):
    status, _, err = small_run(tmp_path, f"kill:{who}", extra=["jax"])
    assert status == 75 and f"process {who} was killed by SIGKILL" in err
    assert f"process {who} on " in err and "ended first: lost" in err


@pytest.mark.slow
def test_a_hung_collective_is_found(tmp_path):
    status, _, err = small_run(tmp_path, "hang:1", extra=["jax"])
    assert status == 75 and "hung: 'step 3' has taken" in err
    assert stacks(tmp_path) == ["process-0.txt", "process-1.txt"]
