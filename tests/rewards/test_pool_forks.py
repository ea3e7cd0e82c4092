"""Rewards that fork, write where they should not, or leave processes behind."""

import pickle
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from rljax.rewards.worker import Outcome, Reply
from rljax.rewards.workers import read_reply
from tests.rewards.scoring import alive, lenient, score

FORKS = """
import os, subprocess, sys
from multiprocessing.connection import Connection
def forks(prompt, completion, reference):
    if completion == "fork":
        os.fork()  # both sides return
    if completion == "fork and raise" and os.fork() == 0:
        raise RuntimeError("of the child")
    if completion == "child":
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
    if completion == "write":
        os.write(int(sys.argv[1]), b"nonsense" * 100)
    if completion == "false reply" or (completion == "once" and not os.path.exists("{note}")):
        open("{note}", "w").close()
        Connection(os.dup(int(sys.argv[1]))).send(("not", "ours"))
    if completion == "loud":
        os.write(1, b"through descriptor 1")
        os.write(2, b"through descriptor 2")
    return float(reference)

def pid(prompt, completion, reference):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
    open(reference, "w").write(f"{os.getpid()} {child.pid}")
    return 1.0
"""


@pytest.mark.parametrize(
    "content", [b"", b"garbage", b"cno_such_module\nx\n.", pickle.dumps(1.0), pickle.dumps((1, 2))]
)
def test_bytes_that_are_no_reply(content):
    assert read_reply(content) is None
    reply = Reply(3, 7, Outcome([1.0], None))
    assert read_reply(pickle.dumps(reply)) == reply


@pytest.fixture
def forking_file(tmp_path):
    path = tmp_path / "forking.py"
    path.write_text(FORKS.replace("{note}", str(tmp_path / "note")))
    return path


def test_every_sample_keeps_its_own_reward_where_a_reward_forks(forking_file):
    """Replies once shifted by one: every later sample got another sample's reward."""
    completions = ["x", "fork", "x", "fork and raise", *["x"] * 20, "fork", "x"]
    references = list(range(len(completions)))
    with lenient(forking_file, "forks", workers=1) as scorer:
        for _ in range(2):
            scores = score(scorer, completions, references)
            np.testing.assert_array_equal(scores.total, references)
    assert not scores.failed.any()


def test_a_reward_that_writes_to_the_socket_costs_its_own_sample(forking_file):
    with lenient(forking_file, "forks", workers=1) as scorer:
        for bad in ("write", "false reply"):
            scores = score(scorer, ["x", bad, "x"], [5, 6, 7])
            np.testing.assert_array_equal(scores.failed, [False, True, False])
            np.testing.assert_array_equal(scores.total, [5, 0, 7])
        assert "the reply to a sample was another's" in scores.first_error


def test_after_one_false_reply_the_sample_is_asked_again(forking_file):
    with lenient(forking_file, "forks", workers=1) as scorer:
        scores = score(scorer, ["x", "once", "x"], [5, 6, 7])
    np.testing.assert_array_equal(scores.total, [5, 6, 7])
    assert not scores.failed.any()


def test_what_a_reward_starts_ends_with_its_worker(forking_file, tmp_path):
    note = tmp_path / "pids"
    with lenient(forking_file, "pid", workers=1) as scorer:
        score(scorer, ["x"], [str(note)])
        assert all(map(alive, _pids(note)))
    assert _all_end(_pids(note))


def _pids(note):
    return [int(word) for word in note.read_text().split()]


def _all_end(pids):
    deadline = time.perf_counter() + 10
    while any(map(alive, pids)) and time.perf_counter() < deadline:
        time.sleep(0.05)
    return not any(map(alive, pids))


def test_no_orphan_holds_the_runs_output(forking_file, tmp_path):
    """The trainer is killed: who reads its output sees the end, and nothing of it lives on."""
    note = tmp_path / "pids"
    code = f"""
from rljax.rewards.pool import Scorer
import time
scorer = Scorer(["{forking_file}:pid"], workers=1)
scorer.score([""], ["x"], ["{note}"])
print("scored", flush=True)
time.sleep(60)
"""
    trainer = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=Path(__file__).parents[2],
    )
    assert trainer.stdout.readline() == b"scored\n"
    trainer.kill()
    assert trainer.stdout.read() == b""  # returns: nobody holds the pipe
    assert _all_end(_pids(note))


def test_what_rewards_write_goes_to_standard_error(forking_file, capfd):
    with lenient(forking_file, "forks", workers=1) as scorer:
        score(scorer, ["loud"], [1])
    out, err = capfd.readouterr()
    assert out == "" and "through descriptor 1" in err and "through descriptor 2" in err
