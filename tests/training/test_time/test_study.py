"""The command that searches at test time, on a run with a reward model."""

import json
from pathlib import Path

import numpy as np
import pytest

from rljax.training.judged import config_of_run, judge
from rljax.training.test_time.choices import Candidates, right_choices
from rljax.training.test_time.settings import STRATEGIES, Settings, check_settings
from tests.launch.test_commands import load

CONFIG = f"{Path(__file__).parents[1] / 'tiny_config.py'}:rlhf"


def test_choices_of_a_problem_by_hand():
    """The right answer is rare, and the model knows it; a truncated sample is nobody's."""
    texts = ["<answer>1</answer>", "<answer>2</answer>", "<answer>2</answer>", "<answer>1"]
    one = Candidates(
        texts,
        np.array([True, False, False, True]),
        np.array([True, True, True, False]),
        np.array([4.0, -4.0, -4.0, 9.0]),
    )
    found = {
        name: [right_choices(name, [one], k, seed=0)[0] for k in (1, 2, 4)]
        for name in ("pass", "vote", "weighted_vote", "best_of_n")
    }
    assert found["pass"] == pytest.approx([1 / 4, 1 / 2, 1])
    # Of the pairs (1, 2), (1, 2), (1, -): the first of a tie wins.
    assert found["vote"] == pytest.approx([1 / 4, 1 / 2, 0])
    assert found["weighted_vote"] == pytest.approx([1 / 4, 1 / 2, 1])
    assert found["best_of_n"] == pytest.approx([1 / 4, 1 / 2, 1])


@pytest.mark.parametrize(
    "fields, scorer, said",
    [
        (dict(strategies=("beams",)), True, "strategies are of"),
        (dict(strategies=("beam",)), False, r"name one \(--scorer\)"),
        (dict(strategies=("vote",)), True, "no strategy reads the model"),
        (dict(budgets=(2, 1)), False, "that rise"),
        (dict(budgets=()), False, "whole numbers >= 1"),
        (dict(strategies=("beam",), budgets=(2, 6)), True, "multiple of beam_width=4"),
        (dict(strategies=("sequential",), attempts=(1, 16)), False, "chains of 16 attempts"),
        (dict(step_tokens=0), False, r">= 1, got 0 \(--step-tokens\)"),
    ],
)
def test_settings_that_cannot_work(fields, scorer, said):
    with pytest.raises(ValueError, match=said):
        check_settings(Settings(**fields), scorer)


def test_the_command_gives_figures_of_every_strategy(one_device_runs, tiny_run, tmp_path, capsys):
    workdir, out = tiny_run("rlhf").workdir, tmp_path / "figures.json"
    command, checkpoint = load("search"), workdir / "checkpoints/warmup"
    asked = [
        f"--checkpoint={checkpoint}",
        f"--config={CONFIG}",
        f"--scorer={workdir / 'checkpoints/rm'}",
        f"--strategies={','.join(STRATEGIES)}",
        "--budgets=1,4",
        "--beam-width=4",
        "--step-tokens=3",
        "--attempts=1,2",
        "--again=+",
        f"--out={out}",
    ]
    assert command.main(asked) == 0
    table = capsys.readouterr().out
    found = {
        (row["strategy"], row["budget"]): row for row in json.loads(out.read_text())["results"]
    }
    assert table.count("\n") == len(found) + 2  # a head, and the name of the file
    named = {"pass", "sequential_1", "sequential_2", *STRATEGIES} - {"sequential"}
    assert {name for name, _ in found} == named
    # Samples, and so figures, are those of an evaluation with as many of them.
    words = ["--config.evaluation.samples_per_prompt=4"]
    plain = judge(config_of_run(CONFIG, checkpoint, words), None, "warmup")
    assert found["pass", 4]["accuracy"] == pytest.approx(plain["pass@4"])
    assert found["pass", 1]["accuracy"] == pytest.approx(plain["pass@1"])
    assert found["vote", 4]["accuracy"] == pytest.approx(plain["majority@4"])
    for budget in (1, 4):
        best = found["pass", budget]["accuracy"]
        same = found["sequential_1", budget]
        assert same["accuracy"] == found["vote", budget]["accuracy"]
        for name in ("vote", "weighted_vote", "best_of_n"):
            row = found[name, budget]
            low, high = row["interval"]
            assert low <= row["accuracy"] <= high and row["accuracy"] <= best + 1e-12
            assert row["tokens"] == pytest.approx(budget * found["pass", 1]["tokens"])
            assert row["scored"] == (0 if name == "vote" else budget)
    assert ("beam", 1) not in found and ("sequential_2", 1) not in found
    assert found["beam", 4]["scored"] >= 4
    assert found["lookahead", 4]["tokens"] > found["beam", 4]["tokens"]
    asked[2] = f"--scorer={checkpoint}"
    assert command.main([*asked, "--overwrite"]) == 1
    assert "The model has the head 'language_model'" in capsys.readouterr().err
