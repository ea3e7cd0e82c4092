import inspect
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from rljax.rewards.pool import Scorer, ScoringError
from rljax.tasks.reasoning_gym import ReasoningGym
from tests.rewards.scoring import alive, lenient, score

# The completion says how the reward behaves.
MISCHIEF = """
import asyncio, os, re, time

def mischief(prompt, completion, reference, *, worth=1.0):
    if completion == "raise":
        raise RuntimeError("the verifier is unhappy")
    if completion == "nan":
        return float("nan")
    if completion == "text":
        return "1.0"
    if completion == "none":
        return None
    if completion == "loop":
        while True:
            pass
    if completion == "stubborn":
        while True:
            try:
                time.sleep(0.01)
            except BaseException:
                if reference == "forever":
                    continue
                return 1.0
    if completion == "sleep":
        time.sleep(60)
    if completion == "regex":
        re.match(r"(a+)+$", "a" * 60 + "b")
    if completion == "c_call":
        sum(iter(int, 1))  # endless, and deaf to Python's signal handlers
    if completion == "power":
        str(9**9**9)
    if completion == "memory":
        bytearray(10**12)
    if completion == "die":
        os._exit(3)
    if completion == "exit":
        raise SystemExit
    if completion == "cancelled":
        raise asyncio.CancelledError("no Exception")
    if completion == "speechless":
        raise Speechless
    if completion == "print":
        print("noise")
    return worth

def counts(prompt, completion, reference, *, completion_tokens):
    return float(completion_tokens)

def no_jax(prompt, completion, reference):
    import sys
    return float("jax" not in sys.modules)

def set_order(prompt, completion, reference):
    return float(list({"alpha", "beta", "gamma", "delta"}).index("alpha"))

class Speechless(Exception):
    def __str__(self):
        raise ValueError("nothing to say")
"""


@pytest.fixture
def user_file(tmp_path):
    path = tmp_path / "user.py"
    path.write_text(MISCHIEF)
    return path


@pytest.mark.parametrize("workers", [0, 2])
def test_a_misbehaving_sample_fails_alone(user_file, workers):
    completions = ["ok", "raise", "nan", "ok", "text", "none", "loop", "stubborn", "sleep"]
    completions += ["memory", "print"] + ["ok"] * 20
    left_out = np.array([c == "none" for c in completions])
    expected = np.array([c not in ("ok", "print", "none") for c in completions])
    if workers == 0:  # nothing limits this process's memory
        expected[completions.index("memory")] = True
    with lenient(user_file, workers=workers, failure_reward=-2.0) as scorer:
        scores = score(scorer, completions)
    np.testing.assert_array_equal(scores.failed, expected)
    worth = np.where(left_out, np.nan, 1.0)
    np.testing.assert_array_equal(scores.total, np.where(expected, -2.0, worth))
    np.testing.assert_array_equal(scores.parts["it"], np.where(expected, 0.0, worth))
    np.testing.assert_array_equal(scores.correct, ~expected & ~left_out)
    np.testing.assert_array_equal(scores.left_out, left_out)
    np.testing.assert_array_equal(scores.judged, ~left_out)
    assert scores.total.dtype == np.float32
    assert scores.first_error == f"RuntimeError: the verifier is unhappy ({user_file}, line 6)"


def test_failed_samples_can_be_left_out(user_file):
    with lenient(user_file, workers=0, failed_samples="left_out") as scorer:
        scores = score(scorer, ["ok", "raise", "none"])
    np.testing.assert_array_equal(scores.total, [1.0, np.nan, np.nan])
    np.testing.assert_array_equal(scores.left_out, [False, True, True])
    np.testing.assert_array_equal(scores.failed, [False, True, False])
    with pytest.raises(ValueError, match="rule for failed samples 'drop'; .*failed_samples"):
        lenient(user_file, workers=0, failed_samples="drop")


@pytest.mark.parametrize("value", [1e300, -1e39, 10**400, 1e17, float("inf")])
def test_a_reward_beyond_float32_fails_and_is_named(tmp_path, value):
    """verl#5076, trl#6238: such a reward made the whole update vanish."""
    path = tmp_path / "huge.py"
    path.write_text(f"inf = float('inf')\ndef f(p, c, r): return {value!r}\n")
    with lenient(path, "f", workers=0) as scorer:
        scores = score(scorer, ["x"])
    assert scores.failed.all() and scores.total == [0.0]
    assert repr(value)[:40] in scores.first_error or "OverflowError" in scores.first_error


def test_a_weighted_sum_beyond_float32_fails_and_a_huge_weight_is_refused(user_file):
    spec = [{"name": f"{user_file}:mischief", "as": "it", "options": {"worth": 1e10}}]
    with Scorer([{**spec[0], "weight": 1e9}], workers=0, max_failed_share=1.0) as scorer:
        assert "weighted sum of the rewards is 1e+19" in score(scorer, ["ok"]).first_error
    with pytest.raises(ValueError, match=r"finite weight of at most 1e\+16, got 1e\+308"):
        Scorer([{**spec[0], "weight": 1e308}], workers=0)


def test_a_process_that_cannot_be_started_is_an_error(user_file, monkeypatch):
    """The first Popen raised BlockingIOError, and `score` never returned."""

    def refused(*args, **kwargs):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("rljax.rewards.workers.subprocess.Popen", refused)
    with lenient(user_file) as scorer:
        with pytest.raises(ScoringError, match="did not start: .*temporarily.*scoring.workers"):
            score(scorer, ["ok"])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_reward_is_known_before_the_run(tmp_path, workers):
    path = tmp_path / "broken_reward.py"
    path.write_text("def f(p, c, r):\n    return len(c) + r['gold']\n")
    with lenient(path, "f", workers=workers) as scorer:
        scorer.try_first("2+2=", {"gold": 4})
        message = rf"TypeError: .* \({path}, line 2\) \(config.scoring.rewards; .*try_first=False"
        with pytest.raises(ValueError, match=message):
            scorer.try_first("2+2=", "4")


def test_a_reward_may_fail_on_an_empty_text(tmp_path):
    path = tmp_path / "picky.py"
    path.write_text("def f(p, c, r): return float(c == r) / len(c)\n")
    with lenient(path, "f", workers=0) as scorer:
        scorer.try_first("2+2=", "4")


@pytest.mark.parametrize("culprit", ["die", "regex", "power", "c_call", "exit"])
def test_a_dead_or_stuck_process_costs_one_sample(user_file, culprit):
    completions = ["ok"] * 9 + [culprit] + ["ok"] * 30
    with lenient(user_file, workers=1) as scorer:
        score(scorer, ["ok"])  # the start is not what is timed here
        start = time.perf_counter()
        scores = score(scorer, completions)
        assert time.perf_counter() - start < 12
        assert score(scorer, ["ok"] * 4).total.sum() == 4  # the successor works
    np.testing.assert_array_equal(np.flatnonzero(scores.failed), [9])


def test_the_end_of_a_process_is_heard_at_once(user_file):
    with lenient(user_file, workers=1, timeout_seconds=60) as scorer:
        score(scorer, ["ok"])  # the start is not what is timed here
        start = time.perf_counter()
        scores = score(scorer, ["die"])
        assert time.perf_counter() - start < 30
    assert "died while scoring (exit status 3)" in scores.first_error


@pytest.mark.parametrize("culprit", ["cancelled", "speechless"])
@pytest.mark.parametrize("workers", [0, 1])
def test_exceptions_of_any_kind_cost_their_sample(user_file, culprit, workers):
    with lenient(user_file, workers=workers) as scorer:
        scores = score(scorer, ["ok", culprit, "ok"])
    np.testing.assert_array_equal(scores.failed, [False, True, False])
    assert {"cancelled": "CancelledError: no Exc", "speechless": "Speechless"}[culprit] in (
        scores.first_error
    )


def test_a_reward_that_swallows_the_alarm_forever_is_killed(user_file):
    completions, references = ["ok", "stubborn", "ok"], [None, "forever", None]
    with lenient(user_file, workers=1) as scorer:
        scores = score(scorer, completions, references)
    np.testing.assert_array_equal(scores.failed, [False, True, False])


@pytest.mark.parametrize("workers", [0, 1])
def test_too_many_failures_stop_the_run(user_file, workers):
    with lenient(user_file, workers=workers, max_failed_share=0.25) as scorer:
        assert score(scorer, ["ok", "ok", "ok", "raise"]).failed.sum() == 1
        message = (
            r"(?s)2 of 4 .*share 0.500, allowed 0.250 \(config.scoring.max_failed_share\)"
            r".*RuntimeError: the verifier is unhappy"
        )
        with pytest.raises(ScoringError, match=message):
            score(scorer, ["ok", "raise", "ok", "nan"])
        assert score(scorer, ["ok"]).total == [1.0]


def test_the_defaults_are_those_of_the_config():
    from rljax.config.schema import SCORING

    for name, parameter in inspect.signature(Scorer).parameters.items():
        if name in SCORING:
            assert parameter.default == SCORING[name].default, name


@pytest.mark.parametrize("workers", [0, 1])
def test_a_task_whose_scorer_is_broken_counts_as_failures(workers):
    reference = ReasoningGym("prime_factorization", seed=0, size=1)[0].reference
    answers = [f"<answer>{text}</answer>" for text in (reference["answer"], "zzz", "2 × 2")]
    broken = {**reference, "entry": {}}
    with Scorer(["reasoning_gym"], workers=workers, max_failed_share=0.4) as scorer:
        scores = score(scorer, answers, [reference, reference, broken])
        np.testing.assert_array_equal(scores.failed, [False, False, True])
        np.testing.assert_array_equal(scores.total, [1.0, 0.0, 0.0])
        with pytest.raises(ScoringError, match="(?s)3 of 3 .*KeyError"):
            score(scorer, answers, [broken] * 3)


def test_results_do_not_depend_on_the_number_of_workers():
    problems = list(ReasoningGym(["chain_sum", "spell_backward"], seed=1, size=150))
    prompts = [p.prompt for p in problems]
    completions = [p.demonstration if i % 3 else "<answer>7" for i, p in enumerate(problems)]
    completions[5] = "<answer>7</answer>"
    references = [p.reference for p in problems]
    tokens = [len(c) for c in completions]
    spec = [
        {"name": "reasoning_gym", "options": {"binary": False}},
        {"name": "format", "weight": 0.1, "gate": "reasoning_gym"},
        {"name": "length", "weight": 0.5, "options": {"max_tokens": 100, "cache_tokens": 60}},
    ]
    results = []
    for workers in (0, 1, 3):
        with Scorer(spec, workers=workers) as scorer:
            results.append(scorer.score(prompts, completions, references, tokens))
    for other in results[1:]:
        np.testing.assert_array_equal(other.total, results[0].total)
        for label, part in other.parts.items():
            np.testing.assert_array_equal(part, results[0].parts[label])
    expected = np.array([i % 3 != 0 and i != 5 for i in range(150)])
    np.testing.assert_array_equal(results[0].correct, expected)
    assert not results[0].failed.any()


def test_workers_have_no_jax_and_agree_on_the_order_of_sets(user_file):
    with lenient(user_file, "no_jax") as scorer:
        assert score(scorer, ["x"] * 8).total.mean() == 1.0
    with lenient(user_file, "set_order") as scorer:
        assert len(set(score(scorer, ["x"] * 64).total)) == 1


def test_token_counts_arrive_in_order_and_are_required(user_file):
    with lenient(user_file, "counts") as scorer:
        scores = score(scorer, ["x"] * 100, completion_tokens=np.arange(100))
        np.testing.assert_array_equal(scores.total, np.arange(100))
        with pytest.raises(ValueError, match="pass completion_tokens"):
            score(scorer, ["x"])
        with pytest.raises(ValueError, match=r"differ in number: \[1, 1, 1, 2, 1\]"):
            score(scorer, ["x"], completion_tokens=[1, 2])


def test_nothing_to_score(user_file):
    with lenient(user_file) as scorer:
        scores = score(scorer, [])
    assert scores.total.shape == (0,) and scores.parts["it"].shape == (0,)


def test_several_threads_may_score_at_once(user_file):
    results = {}
    with lenient(user_file, "counts") as scorer:

        def work(offset):
            tokens = np.arange(50) + offset
            results[offset] = score(scorer, ["x"] * 50, completion_tokens=tokens).total

        threads = [threading.Thread(target=work, args=(k,)) for k in (0, 1000, 2000)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for offset, total in results.items():
        np.testing.assert_array_equal(total, np.arange(50) + offset)


def test_the_constructor_does_not_wait_and_slow_starts_are_not_timed(tmp_path, monkeypatch):
    path = tmp_path / "slow.py"
    path.write_text(
        "import os, time\nif os.environ.get('SCORER_TEST') != str(os.getpid()): time.sleep(1.5)\n"
        "def reward(p, c, r): return 1.0\n"
    )
    monkeypatch.setenv("SCORER_TEST", str(os.getpid()))  # only the workers are slow
    start = time.perf_counter()
    with lenient(path, "reward", workers=1) as scorer:
        assert time.perf_counter() - start < 1.0
        assert score(scorer, ["x"]).total == [1.0]


def test_a_worker_that_cannot_start_says_why(tmp_path):
    path = tmp_path / "broken.py"
    path.write_text("def reward(p, c, r): return 1.0\n")
    scorer = lenient(path, "reward", workers=1)
    with scorer:
        assert score(scorer, ["x"]).total == [1.0]
        path.write_text("raise OSError('the file changed')\n")
        scorer._workers._workers[0]._process.kill()
        scorer._workers._workers[0]._process.wait()
        with pytest.raises(ScoringError, match="(?s)did not start.*the file changed"):
            score(scorer, ["x", "x"])


def test_closing_leaves_no_process_and_happens_at_once(user_file):
    scorer = lenient(user_file)
    score(scorer, ["ok"])
    # A worker that was not needed yet may not have been started.
    processes = [worker._process for worker in scorer._workers._workers if worker._process]
    start = time.perf_counter()
    scorer.close()
    scorer.close()
    assert time.perf_counter() - start < 2
    assert processes and all(process.poll() is not None for process in processes)


@pytest.mark.parametrize("state", ["idle", "loop", "c_call"])
def test_workers_end_when_their_trainer_is_killed(user_file, state):
    code = f"""
import time
from rljax.rewards.pool import Scorer
scorer = Scorer(["{user_file}:mischief"], workers=1, timeout_seconds=0.5, max_failed_share=1.0)
scorer.score([""], ["ok"], [None])
print(scorer._workers._workers[0]._process.pid, flush=True)
if "{state}" == "idle":
    time.sleep(60)
scorer.score([""] * 50, ["{state}"] * 50, [None] * 50)
"""
    trainer = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    worker = int(trainer.stdout.readline())
    time.sleep(0.2)
    trainer.kill()
    trainer.communicate()
    deadline = time.perf_counter() + 10
    while alive(worker) and time.perf_counter() < deadline:
        time.sleep(0.05)
    assert not alive(worker)


@pytest.mark.parametrize(
    "option, value",
    [
        ("workers", -1),
        ("workers", 2**31),
        ("failure_reward", 1e300),
        ("timeout_seconds", 0),
        ("failure_reward", float("nan")),
        ("max_failed_share", 1.5),
        ("memory_mb", 0),
        ("memory_mb", 2**40),
    ],
)
def test_bad_limits(option, value):
    with pytest.raises(ValueError, match=rf"{option} must be .*config.scoring.{option}"):
        Scorer(["format"], **{option: value})
