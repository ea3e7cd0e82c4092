"""Rows and claims: which numbers go in, what is concluded, and what is left open."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rljax.comparison import Claim, claims_about, results

EIGHT = np.array([0.50, 0.52, 0.54, 0.56, 0.58, 0.60, 0.62, 0.64])


@pytest.fixture
def runs(make_runs):
    """Beside the baseline one that is better by 0.1, one worse, and one that is the same."""
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.01, (3, 8))
    noise -= noise.mean(1, keepdims=True)
    return [
        make_runs("grpo", EIGHT),
        make_runs("up", EIGHT + 0.1 + noise[0]),
        make_runs("down", EIGHT - 0.1 + noise[1]),
        make_runs("same", EIGHT + noise[2]),
    ]


def test_rows_come_best_first_with_their_verdicts(runs):
    rows = results.find_rows(runs, "grpo", 0.6)
    assert [row.runs.label for row in rows][0] == "up" and rows[-1].runs.label == "down"
    said = {row.runs.label: row.verdict for row in rows}
    assert said == {"grpo": "", "up": "better", "down": "worse", "same": "not distinguishable"}
    up = rows[0]
    assert up.difference.value == pytest.approx(0.1) and up.paired and up.reason == ""
    x, y = EIGHT + 0.1, EIGHT
    assert up.improvement.value == pytest.approx(
        np.mean(up.runs.accuracy[:, -1:] > y[None]), abs=1e-12
    )
    assert up.accuracy.value == pytest.approx(x.mean())
    base = next(row for row in rows if row.baseline)
    assert base.difference is None and base.iqm.value == pytest.approx(EIGHT[2:6].mean())


def test_the_order_of_seeds_does_not_matter_for_pairs(make_runs):
    base = make_runs("grpo", EIGHT)
    other = make_runs("up", (EIGHT + 0.01)[::-1], seeds=np.arange(8)[::-1])
    found, paired, doubt = results.compare_scores(other, base, "accuracy")
    assert paired and not doubt
    assert found.low == pytest.approx(0.01) == found.high  # every pair differs by just that


def test_other_seeds_are_compared_without_pairs_and_say_so(make_runs):
    rows = results.find_rows(
        [make_runs("grpo", EIGHT), make_runs("up", EIGHT + 0.01, seeds=range(8, 16))], "grpo", 0.5
    )
    assert not rows[0].paired and rows[0].verdict == "not distinguishable"
    assert any("unpaired runs: up" in note for note in results.notes(rows))


def test_too_few_seeds_give_no_verdict_however_clear(make_runs):
    low, high = np.linspace(0.1, 0.2, 5), np.linspace(0.8, 0.9, 5)
    rows = results.find_rows([make_runs("a", low), make_runs("b", high)], "a", 0.5)
    assert rows[0].difference.low > 0 and rows[0].verdict == "not distinguishable"
    assert rows[0].reason == "too few seeds (5)"
    assert any("6 shared seeds" in note for note in results.notes(rows))
    tested = results.check_claim(
        Claim("b", ">", "a", "accuracy", ""), [row.runs for row in rows], 0.5
    )
    assert tested.verdict == "not distinguishable" and tested.reason


def test_area_and_end_of_a_logged_metric_by_hand(make_runs):
    runs = make_runs("grpo", [0.4, 0.8])
    # Lines from 0 to the final value: half of it on average.
    np.testing.assert_allclose(results.area(runs), [0.2, 0.4])
    # The last two of 20 logged steps: (19 + 20) / 2 / 20 of the final value.
    np.testing.assert_allclose(results.logged_at_end(runs, "reward"), [0.39, 0.78])
    uneven = make_runs(
        steps=[0, 1, 10], accuracy=np.tile([0.0, 1.0, 1.0], (4, 1)), updates=[0, 1, 10]
    )
    np.testing.assert_allclose(results.area(uneven), (0.5 * 1 + 9) / 10)
    single = make_runs(
        steps=[5], accuracy=np.full((4, 1), 0.3), tokens=np.ones((4, 1)), updates=[1]
    )
    np.testing.assert_allclose(results.area(single), 0.3)


def test_costs_in_their_units(make_runs):
    runs = make_runs("grpo", [0.4, 0.8, 1.0])  # at step 10: 0.2, 0.4, 0.5
    found = {name: results.cost_to_threshold(runs, name, 0.5) for name in results.COSTS}
    assert found["tokens"].cost.tolist() == [2000, 2000, 1000]
    assert found["updates"].cost.tolist() == [40, 40, 20]
    assert found["seconds"].cost.tolist() == [10, 10, 5]
    assert found["tokens"].reached.tolist() == [False, True, True]


@pytest.mark.parametrize(
    "method, relation, other, metric, said",
    [
        ("up", ">", "grpo", "accuracy", "yes"),
        ("grpo", ">", "up", "accuracy", "no"),
        ("grpo", "<", "up", "accuracy", "yes"),
        ("up", "<", "grpo", "accuracy_area", "no"),
        ("same", ">", "grpo", "accuracy", "not distinguishable"),
        ("same", "=", "grpo", "accuracy", "not distinguishable"),
        ("up", "=", "grpo", "reward", "no"),
        ("up", "=", "grpo", "entropy", "not distinguishable"),
    ],
)
def test_claims(runs, method, relation, other, metric, said):
    tested = results.check_claim(Claim(method, relation, other, metric, "src"), runs, 0.6)
    assert tested.verdict == said and tested.paired and tested.seeds == (8, 8)
    assert tested.effect.value == pytest.approx(tested.value - tested.other_value)


def test_claims_about_costs_count_censored_runs(make_runs):
    fast = make_runs("fast", np.full(8, 1.0))  # at step 10
    slow = make_runs("slow", np.full(8, 0.6))  # at step 20
    never = make_runs("never", np.full(8, 0.4))

    def claim(a, relation, b):
        return results.check_claim(
            Claim(a, relation, b, "tokens_to_threshold", ""), [fast, slow, never], 0.5
        )

    assert claim("fast", "<", "slow").verdict == "yes" and claim("fast", ">", "slow").verdict == (
        "no"
    )
    late = claim("slow", "<", "never")
    assert late.verdict == "yes" and late.effect.value == 1.0 and late.effect_name == "P(cheaper)"
    assert (late.value, late.other_value) == (2000, 2000)  # of `never` a lower bound


@pytest.mark.parametrize(
    "claim, message",
    [
        (Claim("up", ">>", "grpo", "accuracy", ""), "Unknown relation '>>'"),
        (Claim("upp", ">", "grpo", "accuracy", ""), "Unknown method 'upp'"),
        (Claim("up", ">", "grpo", "acuracy", ""), "Did you mean 'accuracy'"),
        (Claim("up", ">", "up", "accuracy", ""), "got 'up' twice"),
    ],
)
def test_claims_that_cannot_be_tested_are_refused(runs, claim, message):
    with pytest.raises(ValueError, match=message):
        results.check_claim(claim, runs, 0.6)


def test_claims_about_what_was_run(make_runs):
    runs = [make_runs("grpo"), make_runs("dapo", point={"a": 1}), make_runs("dapo", point={"a": 2})]
    claims = [
        Claim(*names, "accuracy", "")
        for names in (
            ("dapo", ">", "grpo"),
            ("dapo a=1", ">", "grpo"),
            ("ppo", ">", "grpo"),
        )
    ]
    assert claims_about(claims, runs) == [claims[1]]


def test_a_diverged_metric_is_said_to_be_so(make_runs):
    entropy = np.ones((8, 20))
    entropy[3, -1] = np.nan
    lost = make_runs("lost", EIGHT, metrics={"entropy": entropy})
    base = make_runs("grpo", EIGHT)
    tested = results.check_claim(Claim("lost", ">", "grpo", "entropy", ""), [lost, base], 0.6)
    assert tested.verdict == "not distinguishable"
    assert tested.reason == "1 of 16 values are not finite"
    rows = results.find_rows([lost, base], "grpo", 0.6)
    assert math.isnan(next(r for r in rows if not r.baseline).logged["entropy"].value)
    assert any("not finite" in note for note in results.notes(rows))


@pytest.mark.parametrize("threshold", [0.0, 1.1, math.nan])
def test_thresholds_are_accuracies(runs, threshold):
    with pytest.raises(ValueError, match="threshold"):
        results.find_rows(runs, "grpo", threshold)


def test_labels_must_differ(make_runs):
    with pytest.raises(ValueError, match="more than once"):
        results.find_rows([make_runs("grpo"), make_runs("grpo")], "grpo", 0.5)


def test_different_efforts_are_noted(make_runs):
    short = make_runs("short", EIGHT, tokens=np.tile([0.0, 10.0, 20.0], (8, 1)))
    notes = results.notes(results.find_rows([short, make_runs("grpo", EIGHT)], "grpo", 0.5))
    assert any("between 20 and 2,000 tokens" in note for note in notes)
