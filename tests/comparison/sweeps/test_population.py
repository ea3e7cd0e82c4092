"""Population-based training: who copies whom, what copies change, what is kept of it."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from rljax.comparison.sweeps.exploit import (
    EXPLOITS,
    is_higher,
    latest_scores,
    t_test,
    tournament,
    truncation,
)
from rljax.comparison.sweeps.explore import Change, explored
from rljax.comparison.sweeps.folder import End, Plan, merged, read_plan, write_plan
from rljax.comparison.sweeps.lineage import Generation, copies, followed, generation, read_lineage
from rljax.comparison.sweeps.population import Population, Rule, check_rule, explored_fields
from rljax.comparison.sweeps.schedules import best_runs, population_section
from rljax.comparison.sweeps.scores import Condition
from rljax.comparison.sweeps.tables import copies_table, members_table
from rljax.reporting.run_data import Curve

METRIC = "heldout/q"
RATE = "optimizer.learning_rate"
NAN = float("nan")


def drawing(seed: int = 0):
    return lambda member: np.random.default_rng((seed, member))


def population(points, seeds=(0,), folder=Path(), allowed=lambda numbers: True, **rule):
    given = {"ready": 1, "fields": tuple(points[0])} | rule
    members = tuple(f"m{index}" for index in range(len(points)))
    return Population(Rule(**given), members, seeds, tuple(points), METRIC, allowed, folder)


def curves(*rows):
    return {METRIC: np.array(rows, float), "steps": np.arange(len(rows[0]))}


def test_truncation_replaces_the_worst_fifth_by_the_best():
    scores = np.arange(10.0)
    found = Counter()
    for seed in range(400):
        sources = truncation(scores, scores[:, None], drawing(seed))
        assert sources[2:].tolist() == list(range(2, 10))
        found.update(sources[:2].tolist())
    assert set(found) == {8, 9} and 340 < found[8] < 460  # 400 expected, deviation 14
    # A fifth of less than ten is one; of equals the first is the best; NaN is the worst.
    assert truncation(np.zeros(9), np.zeros((9, 1)), drawing()).tolist() == [*range(8), 0]
    assert truncation(np.array([NAN, 0.0, 5.0]), np.zeros((3, 1)), drawing()).tolist() == [2, 1, 2]
    assert truncation(np.array([1.0, 2.0]), np.zeros((2, 1)), drawing()).tolist() == [1, 1]


def test_tournament_copies_whoever_is_better_and_was_drawn():
    scores = np.array([NAN, 1.0, 2.0, 3.0])
    for seed in range(50):
        sources = tournament(scores, scores[:, None], drawing(seed))
        assert sources[3] == 3 and sources[0] in (1, 2, 3)
        assert all(source >= member for member, source in enumerate(sources))


def test_t_test_copies_only_what_is_higher_for_sure():
    rng = np.random.default_rng(0)
    low, high = rng.normal(0, 1, 10), rng.normal(2, 1, 10)
    near = low + 0.1
    for x, y in ((high, low), (near, low), (low, high)):
        expected = x.mean() > y.mean() and stats.ttest_ind(x, y, equal_var=False).pvalue < 0.05
        assert is_higher(x, y) == expected
    assert is_higher(np.ones(3), np.zeros(3)) and not is_higher(np.ones(1), np.zeros(9))
    latest = np.stack([low, high])
    assert t_test(latest[:, -1], latest, drawing()).tolist() == [1, 1]
    latest = np.stack([low, near])
    assert t_test(latest[:, -1], latest, drawing()).tolist() == [0, 1]
    # A member that has diverged copies one that has not, never the other way round.
    latest = np.stack([low, np.append(high[:-1], NAN)])
    assert t_test(latest[:, -1], latest, drawing()).tolist() == [0, 0]


def test_scores_are_the_last_evaluation_or_a_mean_of_training():
    history = np.arange(24.0).reshape(2, 12)
    scores, latest = latest_scores(history, "heldout")
    assert scores.tolist() == [11, 23] and latest.tolist() == history[:, 2:].tolist()
    assert latest_scores(history, "train")[0].tolist() == [6.5, 18.5]


def test_exploring_multiplies_or_draws_and_stays_within_what_is_allowed():
    def draw(seed):
        return lambda field: np.random.default_rng((seed, len(field)))

    source, beginnings = {"a": 1.0, "bb": 10.0, "ccc": 5.0}, {"a": [1.0, 3.0], "bb": [10.0, 30.0]}
    found = [explored(source, beginnings, 0.0, draw(seed), lambda n: True) for seed in range(200)]
    assert {change.factor for each in found for change in each.values()} == {0.8, 1.2}
    assert all(each["a"].value == each["a"].factor for each in found)
    counts = Counter((each["a"].factor, each["bb"].factor) for each in found)
    assert len(counts) == 4 and min(counts.values()) > 25  # independent: 50 each, deviation 6
    drawn = [explored(source, beginnings, 1.0, draw(seed), lambda n: True) for seed in range(50)]
    assert {each["bb"] for each in drawn} == {Change(10.0, None), Change(30.0, None)}
    some = [explored(source, beginnings, 0.25, draw(seed), lambda n: True) for seed in range(400)]
    assert 70 < sum(each["a"].factor is None for each in some) < 130  # 100, deviation 9
    low = [explored(source, beginnings, 0.0, draw(s), lambda n: n["a"] <= 1) for s in range(20)]
    assert {each["a"] for each in low} == {Change(0.8, 0.8)}
    stuck = explored(source, beginnings, 0.0, draw(0), lambda n: n["a"] == 1)
    assert stuck["a"] == Change(1.0, 1.0)
    # What is drawn may not fit beside the other numbers either.
    fits = [explored(source, beginnings, 1.0, draw(s), lambda n: n["bb"] <= 10) for s in range(50)]
    assert {each["bb"] for each in fits} == {Change(10.0, None), Change(10.0, 1.0)}


def test_each_seed_is_a_population_of_its_own_and_copies_take_all_numbers():
    points = [{"a": float(index + 1), "b": 10.0 * (index + 1)} for index in range(3)]
    members = population(points, seeds=(4, 9), fields=("a",))
    # Runs: m0/4, m0/9, m1/4, m1/9, m2/4, m2/9. With seed 4 m0 is the worst, with seed 9 m2.
    found = members.decide(1, curves(*([0, s] for s in (1, 9, 2, 8, 3, 7))), ())
    assert found.sources == (4, 1, 2, 3, 4, 1)
    assert found.values["a"][0] == pytest.approx(3 * found.factors["a"][0])
    assert found.values["a"][5] == pytest.approx(1 * found.factors["a"][5])
    assert found.values["b"] == (30.0, 10.0, 20.0, 20.0, 30.0, 10.0)  # copied, not explored
    assert found.factors["b"] == (None,) * 6
    assert {found.factors["a"][run] for run in (0, 5)} <= {0.8, 1.2}
    assert [found.factors["a"][run] for run in (1, 2, 3, 4)] == [None] * 4
    assert [found.values["a"][run] for run in (1, 2, 3, 4)] == [1.0, 2.0, 2.0, 3.0]


@pytest.mark.parametrize("exploit", EXPLOITS)
def test_decisions_depend_on_seeds_step_and_scores_alone(exploit):
    points = [{"a": float(index + 1)} for index in range(10)]
    scores = curves(*np.random.default_rng(1).normal(size=(20, 12)) + np.arange(20)[:, None] / 4)

    def decide(step=11, **rule):
        members = population(points, seeds=(0, 1), exploit=exploit, resample=0.5, **rule)
        return members.decide(step, scores, ())

    assert decide() == decide() and decide() == generation(
        json.loads(json.dumps(decide().as_json()))
    )
    assert (
        len({str((decide(seed=seed).sources, decide(seed=seed).values)) for seed in range(5)}) > 1
    )
    assert decide(step=5).values != decide().values


def test_scores_follow_the_weights():
    history, when = np.array([[1.0, 2, 3, 4], [5, 6, 7, 8]]), np.array([0, 1, 2, 3])
    first = Generation(1, (1, 1), (0.0, 0.0), {}, {})
    assert followed(history, when, [first]).tolist() == [[5, 6, 3, 4], [5, 6, 7, 8]]
    second = Generation(2, (0, 0), (0.0, 0.0), {}, {})
    assert followed(history, when, [first, second]).tolist() == [[5, 6, 3, 4], [5, 6, 3, 8]]


def toy(members: Population, steps: int, stop: int = 0, kept=None):
    """Ascends h . theta**2 of arXiv:1711.09846, figure 2, though 1.2 - |theta|**2 is wanted."""
    theta, scores, lineage = np.full((len(members.points), 2), 0.9), [], ()
    if kept is not None:
        theta, scores, lineage = kept
    for step in range(len(scores) + 1, (stop or steps) + 1):
        numbers = members.values(lineage)
        h = np.stack([numbers["h0"], numbers["h1"]], axis=1)
        theta = theta - 0.02 * 2 * h * theta
        scores = [*scores, 1.2 - (theta**2).sum(axis=1)]
        if members.is_ready(step, steps):
            rows = {METRIC: np.array(scores).T, "steps": np.arange(1, step + 1)}
            lineage = (*lineage, members.decide(step, rows, lineage))
            theta = theta[list(lineage[-1].sources)]
    return theta, scores, lineage


def test_a_population_of_two_finds_what_no_fixed_number_does():
    points = [{"h0": 1.0, "h1": 0.0}, {"h0": 0.0, "h1": 1.0}]
    _, alone, _ = toy(population(points, ready=1000), 400)
    assert max(alone[-1]) < 0.4  # 1.2 - 0.81
    for seed in range(5):
        members = population(points, ready=4, resample=0.5, seed=seed)
        _, scores, lineage = toy(members, 400)
        assert max(scores[-1]) > 1.19 and all(len(each.sources) == 2 for each in lineage)


def test_going_on_decides_the_same():
    points = [{"h0": 1.0, "h1": 0.0}, {"h0": 0.0, "h1": 1.0}]
    members = population(points, ready=4, resample=0.5)
    theta, scores, lineage = toy(members, 40, stop=22)
    stored = [generation(json.loads(json.dumps(each.as_json()))) for each in lineage]
    again = toy(members, 40, kept=(theta, scores, tuple(stored)))
    whole = toy(members, 40)
    assert again[2] == whole[2] and (again[0] == whole[0]).all()


def test_the_lineage_says_who_had_the_weights(tmp_path):
    points = [{RATE: 1e-3}, {RATE: 1e-2}, {RATE: 1e-1}]
    members = population(points, seeds=(0, 1), folder=tmp_path)
    rows = [[0, s, s] for s in (1, 1, 2, 3, 3, 2)]
    first = members.decide(1, curves(*(row[:2] for row in rows)), ())
    # In seed 0 m0 copies m2, in seed 1 m0 copies m1; then m2 copies the new m0 of seed 0.
    second = Generation(2, (0, 1, 2, 3, 0, 5), (9, 1, 2, 3, 1, 2), first.values, first.factors)
    members.keep((first, second))
    lineage = read_lineage(tmp_path)
    assert lineage.generations == (first, second) and lineage.seeds == (0, 1)
    assert lineage.ancestors(4) == [(1, 4), (2, 0), (-1, 4)]
    assert lineage.ancestors(3) == [(-1, 3)]
    new = first.values[RATE][0]
    assert lineage.schedule(RATE, 0) == [(0, 1e-3), (1, new)]
    # Until step 1 as m2, until step 2 as m0, which had perturbed the rate; then as m2 again.
    assert lineage.schedule_of_weights(RATE, 0) == [(0, 1e-1), (1, new)]
    assert lineage.schedule_of_weights(RATE, 4)[:2] == [(0, 1e-1), (1, new)]
    found = copies(lineage)
    assert [(c.step, c.seed, c.member, c.source) for c in found] == [
        *((1, 0, "m0", "m2"), (1, 1, "m0", "m1"), (2, 0, "m2", "m0")),
    ]
    assert found[0].changes[RATE] == (new, f"x {first.factors[RATE][0]:g}")
    shown = [condition(f"m{m}", points[m][RATE], [0.1 * m, 0.3 - 0.1 * m]) for m in range(3)]
    assert best_runs(lineage, shown, METRIC) == [4, 1]
    # Before anything is known of the end, the last decision says who is ahead: 9 and 3.
    unknown = [condition(f"m{m}", points[m][RATE], [NAN, NAN]) for m in range(3)]
    assert best_runs(lineage, unknown, METRIC) == [0, 3]
    assert len(copies_table(lineage, shown)[1]) == 3
    ends = members_table(lineage, shown, METRIC)[1]
    assert [row[:2] for row in ends[:3]] == [["m2", "0"], ["m1", "0"], ["m0", "0"]]
    assert ends[0][-1] == "m2 until step 1; then m0 until step 2" and ends[1][-1] == "itself"
    page = population_section(lineage, shown, METRIC)
    assert page.count("<svg") == 2 and page.count('class="dot c1"') == 3
    (tmp_path / "lineage.json").write_text('{"rule": {}}')
    with pytest.raises(ValueError, match=r"lineage\.json is not complete: 'members'"):
        read_lineage(tmp_path)


def condition(name: str, rate: float, scores) -> Condition:
    found = tuple(Curve(np.array([0, 2]), np.array([0.0, score])) for score in scores)
    return Condition(name, {RATE: rate}, (0, 1), (End("done"), End("done")), {METRIC: found})


def test_a_population_stays_as_it_is(tmp_path):
    from tests.comparison.sweeps.test_local import plan_of

    def plan(*rates, **rule) -> Plan:
        made = plan_of(*rates)
        given = Rule(**({"ready": 2, "fields": (RATE,)} | rule))
        return Plan(**{**vars(made), "vmapped": True, "population": given})

    write_plan(tmp_path, plan(0.1, 0.2))
    assert read_plan(tmp_path) == plan(0.1, 0.2) == merged(tmp_path, plan(0.1, 0.2))
    with pytest.raises(ValueError, match="holds a sweep with population=.*ready=2.*ready=4"):
        merged(tmp_path, plan(0.1, 0.2, ready=4))
    with pytest.raises(ValueError, match="holds a population of 2 cells, others than these"):
        merged(tmp_path, plan(0.1, 0.2, 0.3))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: check_rule(Rule(2), ["a"], 8, 2), "needs 2 members or more, and the sweep has 1"),
        (lambda: check_rule(Rule(2, "truncate"), "ab", 8, 2), "exploit.*Did you mean 'truncation'"),
        (lambda: check_rule(Rule(3), "ab", 8, 2), "every 2 steps, and 3 steps are no multiple"),
        (lambda: check_rule(Rule(4), "ab", 8, 0), "every 8 steps, and 4 steps are no multiple"),
        (lambda: check_rule(Rule(8), "ab", 8, 2), "never judged before their end"),
        (lambda: explored_fields((), {}, "rl"), "set no field besides the seed"),
        (lambda: explored_fields(("a.c",), {"a.b": [1.0]}, "rl"), "field of the sweep 'a.c'"),
        (lambda: explored_fields((), {"a.b": [1.0, "x"]}, "rl"), "a.b='x' is no number"),
        (lambda: explored_fields((), {"a.b": [True]}, "rl"), "a.b=True is no number"),
        (lambda: explored_fields((), {"a.b": [1.0, 0.0]}, "rl"), "a.b=0 stays 0"),
        (
            lambda: population([{"a": 1.0}, {"a": 2.0}]).decide(
                1, {"train/x": np.ones((2, 1))}, ()
            ),
            "Unknown metric 'heldout/q'; known: 'train/x'",
        ),
    ],
)
def test_what_cannot_be_a_population_is_told_in_one_line(make, message):
    with pytest.raises(ValueError, match=message) as error:
        make()
    assert "\n" not in str(error.value)
