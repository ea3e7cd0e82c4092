"""A sample that takes too much, or leaves something behind, costs itself only."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from rljax.rewards.output import OutputPipe
from rljax.rewards.pool import Scorer

ROOT = Path(__file__).parents[2]

REWARD = """
import os, sys, time

def bomb(prompt, completion, reference):
    if completion == "memory":
        x = []
        while True:
            x.append(bytearray(2**26))
    if completion == "at once":
        bytearray(10**11)
    if completion == "recursion":
        def f(): return f()
        f()
    if completion == "nested":
        eval("(" * 100000 + ")" * 100000)
    if completion == "output":
        while True:
            os.write(1, b"x" * 65536)
    if completion == "daemon":
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                open(reference, "w").write(str(os.getpid()))
                time.sleep(1000)
            os._exit(0)
        while not (os.path.exists(reference) and open(reference).read()):
            time.sleep(0.01)
    return float(os.getpid())
"""


@pytest.fixture
def name(tmp_path):
    path = tmp_path / "bombs.py"
    path.write_text(REWARD)
    return f"{path}:bomb"


def scorer(name, **options):
    options = {"workers": 1, "timeout_seconds": 2.0, "max_failed_share": 1.0, **options}
    return Scorer([name], **options)


@pytest.mark.parametrize("culprit", ["memory", "at once"])
def test_memory_costs_its_own_sample_and_the_process_is_replaced(name, culprit):
    with scorer(name, memory_mb=1024, timeout_seconds=20.0) as pool:
        scores = pool.score([""] * 5, ["x", "x", culprit, "x", "x"], [None] * 5)
    np.testing.assert_array_equal(scores.failed, [False, False, True, False, False])
    assert scores.first_error.startswith("MemoryError")
    assert "more than 1024 MB (config.scoring.memory_mb)" in scores.first_error
    before, after = scores.total[[0, 1]], scores.total[[3, 4]]
    assert before[0] == before[1] != after[0] == after[1]


@pytest.mark.parametrize("culprit", ["recursion", "nested", "output"])
def test_other_bombs_cost_their_own_sample(name, culprit, capfd):
    with scorer(name) as pool:
        scores = pool.score([""] * 5, ["x", "x", culprit, "x", "x"], [None] * 5)
    np.testing.assert_array_equal(scores.failed, [False, False, True, False, False])
    assert len(capfd.readouterr().err) < 4 * 2**20


def test_output_without_end_is_cut_and_counted(capfd):
    pipe = OutputPipe()
    for _ in range(100):
        os.write(pipe.write, b"x" * 65536)
    pipe.close()
    shown = capfd.readouterr().err
    assert len(shown) < 3 * 2**20 and "bytes of the rewards' output left out" in shown


BOMBS = (
    *("9**9**9", "9^{9^{9}}", r"9^{9^{9^{9}}}", "100000!", "(10**6)!", "10!!!!!!", "9" * 10**6),
    *("1e999999999", "0.1e-999999999", "(" * 5000 + "1" + ")" * 5000, r"\frac{1}{" * 2000),
    *("{" * 10**5, "[" * 10**5, r"\sqrt{" * 3000 + "2" + "}" * 3000, "1+" * 50_000 + "1"),
    *("x^" * 10_000 + "x", r"\sum_{n=1}^{10^{9}} n!", r"\int_0^1 x^{x^{x^x}} dx", "10^(10^10)"),
    *("2^" * 50 + "2", r"\binom{10^9}{5\cdot 10^8}", "(x+y+z)^{1000}", "7" * 4301),
    "-" * 10**5 + "1",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("reward", ["math", "math_dapo", "math_verl"])
def test_bombs_of_mathematics(reward):
    pytest.importorskip("math_verify")
    from rljax.rewards.functions import REWARDS

    if reward not in REWARDS:
        pytest.skip(f"no reward {reward!r}")
    answers = [f"The answer is \\boxed{{{bomb}}}." for bomb in BOMBS]
    mixed = [text for bomb in answers for text in (bomb, "\\boxed{12}")]
    with Scorer([reward], workers=2, timeout_seconds=3.0, max_failed_share=1.0) as pool:
        scores = pool.score([""] * len(mixed), mixed, ["12"] * len(mixed))
    assert not scores.failed[1::2].any() and scores.correct[1::2].all()
    assert not scores.correct[::2].any()


TRAINER = """
from rljax.rewards.pool import Scorer
import time
with Scorer(["{name}"], workers=1) as scorer:
    scorer.score([""], ["daemon"], ["{note}"])
    print("scored", flush=True)
    time.sleep({rest})
"""


@pytest.mark.skipif(sys.platform != "linux", reason="orphans are adopted on Linux only")
@pytest.mark.parametrize("end", ["killed", "closed"])
def test_a_daemon_of_a_reward_ends_with_the_run(name, tmp_path, end):
    """It forks twice and makes a session of its own, so it is in no group of ours."""
    note = tmp_path / "pid"
    code = TRAINER.format(name=name, note=note, rest=0 if end == "closed" else 60)
    trainer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT)
    assert trainer.stdout.readline() == b"scored\n"
    daemon = int(note.read_text())
    if end == "killed":
        assert Path(f"/proc/{daemon}").exists()
        trainer.kill()
    trainer.communicate()
    deadline = time.monotonic() + 20
    while Path(f"/proc/{daemon}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{daemon}").exists()
