"""Rows and claims: which numbers go in, what is concluded, and what is left open."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rljax.comparison import Claim, claims_about, results, statistics
from rljax.comparison.notes import notes


def check_claim(claim, runs, threshold):
    """A claim alone."""
    (tested,) = results.check_claims([claim], runs, threshold)
    return tested


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
    differences = up.runs.accuracy[:, -1] - EIGHT
    assert up.difference.value == pytest.approx(np.median(differences)) and up.paired
    assert up.reason == ""
    x, y = EIGHT + 0.1, EIGHT
    assert up.improvement == pytest.approx(np.mean(up.runs.accuracy[:, -1:] > y[None]), abs=1e-12)
    assert up.mean == pytest.approx(x.mean())
    assert up.accuracy.value == pytest.approx(np.median(up.runs.accuracy[:, -1]))
    base = next(row for row in rows if row.baseline)
    assert base.difference is None and base.accuracy[1:] == (EIGHT[0], EIGHT[-1])
    # 2 / 2^8 for each of the two that differ in every seed, times 3 and times 2.
    p = {row.runs.label: row.p for row in rows}
    assert p["up"] == p["down"] == pytest.approx(3 * 2 / 2**8)


def test_verdicts_are_corrected_for_their_number(make_runs):
    """One that is better in every one of 8 seeds: clear among 6 verdicts, not among 7."""
    runs = [make_runs("grpo", EIGHT), make_runs("up", EIGHT + 0.1)]
    alike = [make_runs(f"m{i}", EIGHT) for i in range(6)]
    for others, said in ((alike[:5], "better"), (alike, "not distinguishable")):
        rows = results.find_rows([*runs, *others], "grpo", 0.6)
        up = next(row for row in rows if row.runs.label == "up")
        assert up.verdict == said
        assert up.p == pytest.approx((len(others) + 1) * 2 / 2**8)
        assert up.reason == ("" if said == "better" else "too few seeds (8) for 7 verdicts")


def test_runs_that_end_below_where_they_began_are_counted(make_runs):
    accuracy = np.array([[0.2, 0.3, 0.4], [0.2, 0.3, 0.1], [0.2, 0.2, 0.2], [0.3, 0.0, 0.0]])
    (row,) = results.find_rows([make_runs("a", accuracy=accuracy)], "a", 0.5)
    assert row.fell == 2


def test_the_order_of_seeds_does_not_matter_for_pairs(make_runs):
    base = make_runs("grpo", EIGHT)
    other = make_runs("up", (EIGHT + 0.01)[::-1], seeds=np.arange(8)[::-1])
    found = results.compare_scores(other, base, "accuracy")
    assert found.paired and not found.doubt(1)
    assert found.effect.low == pytest.approx(0.01) == found.effect.high  # of every pair


def test_other_seeds_are_compared_without_pairs_and_say_so(make_runs):
    rows = results.find_rows(
        [make_runs("grpo", EIGHT), make_runs("up", EIGHT + 0.01, seeds=range(8, 16))], "grpo", 0.5
    )
    assert not rows[0].paired and rows[0].verdict == "not distinguishable"
    assert any("unpaired runs: up" in note for note in notes(rows))


def test_too_few_seeds_give_no_verdict_however_clear(make_runs):
    low, high = np.linspace(0.1, 0.2, 5), np.linspace(0.8, 0.9, 5)
    rows = results.find_rows([make_runs("a", low), make_runs("b", high)], "a", 0.5)
    assert rows[0].difference.value > 0.5 and rows[0].verdict == "not distinguishable"
    assert rows[0].reason == "too few seeds (5)"
    assert any("6 shared seeds" in note for note in notes(rows))
    tested = check_claim(Claim("b", ">", "a", "accuracy", ""), [row.runs for row in rows], 0.5)
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
    found = {name: results.cost_to_threshold(runs, name, 0.5) for name in results.AXES}
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
    tested = check_claim(Claim(method, relation, other, metric, "src"), runs, 0.6)
    assert tested.verdict == said and tested.paired and tested.seeds == (8, 8)
    assert tested.effect.value == pytest.approx(tested.value - tested.other_value, abs=0.01)


def test_claims_about_costs_count_censored_runs(make_runs):
    fast = make_runs("fast", np.full(8, 1.0))  # at step 10
    slow = make_runs("slow", np.full(8, 0.6))  # at step 20
    never = make_runs("never", np.full(8, 0.4))

    def claim(a, relation, b):
        claimed = Claim(a, relation, b, "tokens_to_threshold", "")
        return check_claim(claimed, [fast, slow, never], 0.5)

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
        check_claim(claim, runs, 0.6)


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
    tested = check_claim(Claim("lost", ">", "grpo", "entropy", ""), [lost, base], 0.6)
    assert tested.verdict == "not distinguishable"
    assert tested.reason == "1 of 16 values are not finite"
    rows = results.find_rows([lost, base], "grpo", 0.6)
    assert math.isnan(next(r for r in rows if not r.baseline).logged["entropy"].value)
    assert any("not finite" in note for note in notes(rows))


@pytest.mark.parametrize("threshold", [0.0, 1.1, math.nan])
def test_thresholds_are_accuracies(runs, threshold):
    with pytest.raises(ValueError, match="threshold"):
        results.find_rows(runs, "grpo", threshold)


def test_labels_must_differ(make_runs):
    with pytest.raises(ValueError, match="more than once"):
        results.find_rows([make_runs("grpo"), make_runs("grpo")], "grpo", 0.5)


def test_different_efforts_are_noted(make_runs):
    short = make_runs("short", EIGHT, tokens=np.tile([0.0, 10.0, 20.0], (8, 1)))
    found = notes(results.find_rows([short, make_runs("grpo", EIGHT)], "grpo", 0.5))
    assert any("between 20 and 2.00k tokens" in note for note in found)


def test_the_notes_say_how_often_verdicts_are_wrong_and_what_they_can_see(runs):
    rows = results.find_rows(runs, "grpo", 0.6)
    claims = [Claim("up", ">", "grpo", "accuracy", ""), Claim("down", ">", "up", "accuracy", "")]
    found = notes(rows, results.check_claims(claims, runs, 0.6))
    assert any(note.startswith("3 verdicts against grpo, corrected") for note in found)
    assert any(note.startswith("2 claims, corrected for their number (Holm)") for note in found)
    (power,) = (note for note in found if note.startswith("Power: 8 seeds show a difference of"))
    deviations = [(run.accuracy[:, -1] - EIGHT).std(ddof=1) for run in runs[1:]]
    size = float(power.split("difference of ")[1].split()[0])
    assert size == pytest.approx(statistics.detectable(8, 3) * np.median(deviations), abs=1e-3)
    one = notes(results.find_rows(runs[:2], "grpo", 0.6))
    assert any(note.startswith("One verdict against grpo: if nothing differed") for note in one)


def test_claims_are_corrected_for_their_number(runs):
    """The same claim among 7: 8 pairs are too few."""
    claims = [Claim("up", ">", "grpo", "accuracy", str(i)) for i in range(7)]
    tested = results.check_claims(claims, runs, 0.6)
    assert {one.verdict for one in tested} == {"not distinguishable"}
    assert tested[0].reason == "too few seeds (8) for 7 verdicts"
    assert check_claim(claims[0], runs, 0.6).verdict == "yes"
