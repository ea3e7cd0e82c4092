"""Budgets: what was spent, and runs cut at just that amount."""

import dataclasses
import math

import numpy as np
import pytest
from ml_collections import ConfigDict

from rljax.comparison import write_comparison
from rljax.comparison.budget import Budget, at_budget, is_spent, parse_budget, spent, spent_by_all

EIGHT = np.linspace(0.3, 0.6, 8)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("updates", ("updates", None)),
        ("tokens:2e6", ("tokens", 2e6)),
        ("seconds:30", ("seconds", 30.0)),
    ],
)
def test_words_of_a_budget(text, expected):
    assert parse_budget(text) == expected


@pytest.mark.parametrize(
    "text, message",
    [
        ("update", r"Unknown budget 'update'.*Did you mean 'updates'"),
        ("tokens:many", r"above 0, got 'many' \(--budget=tokens:AMOUNT\)"),
        ("updates:0", "above 0, got '0'"),
        ("updates:nan", "above 0, got 'nan'"),
    ],
)
def test_budgets_that_are_none(text, message):
    with pytest.raises(ValueError, match=message):
        parse_budget(text)


def test_what_was_spent_by_hand(make_runs):
    runs = make_runs("grpo", [0.4, 0.8])  # steps 0, 10, 20; 100 tokens, 2 updates, 0.5 s a step
    assert spent(runs, "updates").tolist() == [[0, 20, 40]] * 2
    assert spent(runs, "tokens").tolist() == [[0, 1000, 2000]] * 2
    assert spent(runs, "seconds").tolist() == [[0, 5, 10]] * 2
    assert is_spent(runs, Budget("tokens", 2000)) and not is_spent(runs, Budget("tokens", 2001))


def test_what_all_have_spent(make_runs):
    runs = make_runs("grpo", [0.4, 0.8])
    short = dataclasses.replace(runs, updates=runs.updates // 4, tokens=3 * runs.tokens)
    assert spent_by_all([runs, short], "updates") == Budget("updates", 10.0)
    assert spent_by_all([runs, short], "tokens") == Budget("tokens", 2000.0)


def test_an_evaluation_at_the_amount_is_the_last_one(make_runs):
    cut = at_budget(make_runs("grpo", [0.4, 0.8]), Budget("updates", 20))
    assert cut.steps.tolist() == [0, 10] and cut.updates.tolist() == [0, 20]
    np.testing.assert_allclose(cut.accuracy[:, -1], [0.2, 0.4])
    assert cut.metric_steps[-1] == 10 and cut.metrics["entropy"].shape == (2, 10)
    assert cut.seconds == 5.0


def test_between_two_evaluations_lies_a_line(make_runs):
    cut = at_budget(make_runs("grpo", [0.4, 0.8]), Budget("tokens", 1500))
    assert cut.steps.tolist() == [0, 10, 15] and cut.tokens[:, -1].tolist() == [1500, 1500]
    np.testing.assert_allclose(cut.accuracy[:, -1], [0.3, 0.6])
    assert cut.updates[-1] == 30


def test_every_seed_is_taken_where_it_has_spent_as_much(make_runs):
    tokens = np.array([[0.0, 1000, 2000], [0.0, 2000, 4000]])
    cut = at_budget(make_runs("grpo", [0.4, 0.8], tokens=tokens), Budget("tokens", 1500))
    assert cut.tokens[:, -1].tolist() == [1500, 1500]
    np.testing.assert_allclose(cut.accuracy[:, -1], [0.3, 0.3])  # 3/4 of 0.4, 3/8 of 0.8


def test_runs_that_ended_before_stay_as_they_are(make_runs):
    runs = make_runs("grpo", [0.4, 0.8])
    assert at_budget(runs, Budget("updates", 41)) is runs


def test_a_comparison_says_its_budget_and_compares_there(make_runs, tmp_path):
    base = make_runs("grpo", EIGHT)
    # Twice as many updates, at the same steps: at the baseline's 40 it is half as far.
    double = make_runs("double", 2 * EIGHT - 0.3, updates=[0, 40, 80])
    budget = Budget("updates", 40)
    found = write_comparison(tmp_path, [base, double], "grpo", 0.5, budget=budget)
    row = next(row for row in found["rows"] if row["label"] == "double")
    assert row["last_update [updates]"] == 40
    assert row["accuracy_median [share]"] == pytest.approx(np.median(EIGHT) - 0.15)
    assert "Budget of each seed of every method: 40 updates." in found["notes"]
    page = (tmp_path / "report.html").read_text()
    assert "Held-out accuracy by updates" in page and "Held-out accuracy by tokens" in page
    assert "optimizer updates" in (tmp_path / "curves.svg").read_text()
    more = write_comparison(tmp_path, [base], "grpo", 0.5, budget=Budget("updates", 50))
    assert "Ended before the budget was spent: grpo." in more["notes"]
    assert not any(math.isnan(row["seconds_per_seed [s]"]) for row in more["rows"])


def config_of(method):
    from rljax.comparison.compare import Comparison, alone

    asked = Comparison("sort", (method,), 2, None, "configs/compare.py")
    return alone(asked.load(method))


@pytest.mark.parametrize("method, steps", [("rloo", 300), ("grpo", 150)])
def test_a_budget_of_updates_is_a_number_of_steps(method, steps, monkeypatch):
    """rloo makes one update a step, grpo two."""
    from pathlib import Path

    from rljax.comparison.runner import within

    monkeypatch.chdir(Path(__file__).parents[2])
    config = config_of(method)
    assert isinstance(config, ConfigDict)
    assert within(config, Budget("updates", 300)).rl.steps == steps
    assert within(config, Budget("updates", 1)).rl.steps == 1
    assert within(config, None).rl.steps == 150
    assert within(config, Budget("tokens", 1e6)).rl.steps == 8 * 150
