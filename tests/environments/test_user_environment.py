"""Environments of a file: how they are found, and what becomes of those that misbehave."""

import pytest

from rljax.config.load import complete
from rljax.environments.environment import start_of
from rljax.environments.problems import EnvironmentProblems, MadeRecords
from rljax.environments.stepping import Stepper
from rljax.environments.table import absolute_name, find_environment
from rljax.rewards.pool import Scorer
from rljax.training.run.problems import open_problems

FILE = """
import os, time

def reset(record):
    if record["prompt"] == "bad":
        raise KeyError("no such game")
    return record["prompt"]

def step(state, reply):
    state["seen"] = state.get("seen", 0) + 1
    if reply == "raise":
        raise RuntimeError("broken")
    if reply == "hang":
        time.sleep(100)
    if reply == "die":
        os._exit(3)
    if reply == "shape":
        return "only an observation"
    if reply == "reward":
        return "x", float("nan"), False
    if reply == "done":
        return "x", 1.0, 1
    if reply == "state":
        state["set"] = {1, 2}
    if reply == "assistant":
        return [{"role": "assistant", "content": "me"}], 0.0, False
    return f"{reply} {state['seen']}", 0.5, reply == "end"

class Counter:
    def __init__(self, start=0):
        self.start = start

    def reset(self, record):
        return [{"role": "user", "content": str(self.start)}]

    def step(self, state, reply):
        return None, 0.0, True

made = Counter(3)
nothing = 5
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "game.py"
    path.write_text(FILE)
    return str(path)


def test_a_file_a_class_and_an_object(file):
    assert start_of(find_environment(file, {}), {"prompt": "hi"}, "row 1") == (
        [{"role": "user", "content": "hi"}],
        {"record": {"prompt": "hi"}},
        None,
    )
    counter = find_environment(f"{file}:Counter", {"start": 2})
    assert start_of(counter, {}, "row 1").messages[0]["content"] == "2"
    assert start_of(find_environment(f"{file}:made", {}), {}, "r").messages[0]["content"] == "3"
    for name, options, match in (
        (f"{file}:made", {"start": 1}, "is made already and takes no options"),
        (f"{file}:nothing", {}, "is no environment and makes none"),
        (f"{file}:Countr", {}, "Countr.*Counter"),
        (f"{file}:FILE", {}, "FILE"),
        ("missing.py", {}, "No file 'missing.py'"),
    ):
        with pytest.raises(ValueError, match=match):
            find_environment(name, options)


def test_a_name_is_as_good_in_another_folder(file, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert absolute_name("game.py:made") == f"{file}:made"
    assert absolute_name("guess") == "guess"


@pytest.mark.parametrize("workers", [0, 1])
def test_what_goes_wrong_costs_its_own_episode(file, workers):
    replies = ["a", "raise", "shape", "reward", "done", "state", "assistant", "end"]
    with Stepper(file, {}, workers=workers, timeout_seconds=2.0, memory_mb=2048) as stepper:
        outcomes = stepper.step([({"n": 1}, reply) for reply in replies])
    assert outcomes[0].answer == [
        {"n": 1, "seen": 1}, [{"role": "user", "content": "a 1"}], 0.5, False,
    ]  # fmt: skip
    assert outcomes[-1].answer == [{"n": 1, "seen": 1}, [], 0.5, True]
    for outcome, said in zip(
        outcomes[1:-1],
        (
            "RuntimeError: broken (",
            "step() must return (observation, reward, done), got 'only an observation'",
            "finite reward of at most",
            "True or False as done, got 1",
            "plain data that JSON keeps as it is",
            "its last message is the assistant's",
        ),
        strict=True,
    ):
        assert outcome.answer is None and said in outcome.error
    assert "game.py, line" in outcomes[1].error


def test_an_environment_that_hangs_or_dies_is_stopped(file):
    with Stepper(file, {}, workers=1, timeout_seconds=0.5, memory_mb=2048) as stepper:
        outcomes = stepper.step([({}, "hang"), ({}, "a"), ({}, "die"), ({}, "b")])
    assert [outcome.answer is None for outcome in outcomes] == [True, False, True, False]
    assert outcomes[0].error == "The environment took longer than 0.5 s."
    assert "The worker process died" in outcomes[2].error
    with Stepper(file, {}, workers=0, timeout_seconds=0.5, memory_mb=2048) as stepper:
        assert stepper.step([({}, "hang")])[0].answer is None


def test_a_broken_environment_is_known_before_a_run(tmp_path):
    path = tmp_path / "broken.py"
    path.write_text(
        "def reset(record):\n    return 'x'\n\ndef step(state, reply):\n    return 1/0\n"
    )
    with Stepper(str(path), {}, workers=0, timeout_seconds=1.0, memory_mb=2048) as stepper:
        with pytest.raises(
            ValueError, match=r"fails on an empty reply .*ZeroDivisionError.*line 5"
        ):
            stepper.try_first({})


def test_a_reset_that_raises_names_the_row_and_the_line(file):
    problems = EnvironmentProblems(
        find_environment(file, {}), [{"prompt": "ok"}, {"prompt": "bad"}]
    )
    assert problems[0]["prompt"] == [{"role": "user", "content": "ok"}]
    with pytest.raises(ValueError, match=r"game.py, line 6: KeyError: .*no such game.*environment"):
        problems[1]


def test_what_reset_may_return(tmp_path):
    path = tmp_path / "odd.py"
    path.write_text(
        "def reset(record):\n    return record['give']\n\ndef step(s, r):\n    return 1\n"
    )
    environment = find_environment(str(path), {})
    for given, match in (
        (3, "row 4: what reset.. returned must hold a list of messages, got 3"),
        ([], "must hold a list of messages"),
        ([{"role": "user"}], "message 0 lacks content"),
    ):
        with pytest.raises(ValueError, match=match):
            start_of(environment, {"give": given}, "row 4")


def test_an_environment_that_makes_no_problems(file):
    with pytest.raises(ValueError, match="function record.seed., which this one has not"):
        MadeRecords(find_environment(file, {}), first_seed=0, size=4)
    made = MadeRecords(find_environment("guess", {}), first_seed=5, size=3)
    assert len(made) == 3 and made.place(1) == "problem of seed 6"
    assert made[0]["reference"] is None and 1 <= made[0]["secret"] <= 20
    with pytest.raises(IndexError):
        made[3]


def test_held_out_problems_have_other_seeds_than_those_of_training():
    made = {"kind": "environment", "train_size": 10, "train_seed": 5, "heldout_size": 3}
    made = {"environment": {"name": "guess"}, "data": made | {"heldout_seed": 15}}
    config = complete(made | {"stages": ("rl",), "rl": {"method": "grpo"}})
    train, heldout = open_problems(config)
    assert (len(train), len(heldout)) == (10, 3)
    for seed in (14, 3):
        config.data.heldout_seed = seed
        with pytest.raises(ValueError, match="seeds 5..14 .* overlap.*config.data.train_seed"):
            open_problems(config)


def test_an_episode_that_failed_has_no_reward_of_any_kind():
    """Also where only the last reply is judged."""
    with Scorer(["exact_match"], workers=0, max_failed_share=1.0) as scorer:
        episode = {"messages": [], "turns": [], "end": "failed", "error": "boom"}
        scores = scorer.score(["p"], ["4"], ["4"], episodes=[episode])
    assert scores.failed[0] and not scores.correct[0] and "boom" in scores.first_error
