"""The table of preference losses: exact sums, draws, losses by hand, verdicts, and its README."""

import functools
import importlib.util
import itertools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.comparison.preferences import (
    draws,
    losses,
    measures,
    methods,
    overoptimisation,
    proxy,
    proxy_table,
    run,
    table,
    task,
)
from rljax.comparison.preferences.measures import Said, rankings
from rljax.comparison.preferences.task import END, PROMPTS, SLOTS, SYMBOLS

ROOT = Path(__file__).parents[2]
ROOM = ROOT / "rljax/comparison/preferences"
PROBLEM = task.draw_problem(jax.random.key(0))
POLICY = PROBLEM.start + 0.5 * PROBLEM.gold
NOISE = 0.2
ROWS = draws.draw_rows(jax.random.key(1), PROBLEM, NOISE, 400, draws.PAIRS)


def every_completion():
    """All completions [n, T]: END after any number of symbols, or none within the slots."""
    found = []
    for length in range(SLOTS):
        for symbols in itertools.product(range(SYMBOLS), repeat=length):
            found.append(symbols + (END,) * (SLOTS - length))
    found += itertools.product(range(SYMBOLS), repeat=SLOTS)
    return jnp.array(found)


def test_sums_are_those_over_every_completion():
    tokens = every_completion()
    prompt = 3
    prompts = jnp.full(len(tokens), prompt)
    logprobs = np.asarray(task.token_logprobs(POLICY, prompts, tokens).sum(axis=-1), np.float64)
    start = np.asarray(task.token_logprobs(PROBLEM.start, prompts, tokens).sum(axis=-1), np.float64)
    gold = np.asarray(task.token_values(PROBLEM.gold, prompts, tokens).sum(axis=-1), np.float64)
    chances = np.exp(logprobs)
    assert chances.sum() == pytest.approx(1.0, abs=1e-5)
    expected = task.expected(POLICY, PROBLEM.gold)[prompt]
    np.testing.assert_allclose(expected, (chances * gold).sum(), rtol=1e-4)
    np.testing.assert_allclose(task.best(PROBLEM.gold)[prompt], gold.max(), rtol=1e-5)
    kl = (chances * (logprobs - start)).sum()
    np.testing.assert_allclose(task.kl_to(POLICY, PROBLEM.start)[prompt], kl, rtol=1e-4)


def test_samples_follow_the_policy():
    prompts = jnp.full(20_000, 2)
    tokens = task.sample(jax.random.key(2), POLICY, prompts)
    ended = np.asarray(tokens == END)
    assert (np.diff(ended.astype(int), axis=-1) >= 0).all()  # nothing follows the end
    gold = np.asarray(task.token_values(PROBLEM.gold, prompts, tokens).sum(axis=-1))
    expected = float(task.expected(POLICY, PROBLEM.gold)[2])
    assert abs(gold.mean() - expected) < 4 * gold.std() / np.sqrt(len(gold))


def test_rows_are_what_they_say():
    gold = task.token_values(PROBLEM.gold, ROWS.prompts[:, None, None], ROWS.tokens).sum(axis=-1)
    np.testing.assert_allclose(gold, ROWS.gold, rtol=1e-6)
    assert (ROWS.gold[..., 0] >= ROWS.gold[..., 1]).all()
    assert (ROWS.tokens[:, :, 0] != ROWS.tokens[:, :, 1]).any(axis=-1).mean() > 0.995
    share = np.asarray(draws.preferred_share(ROWS.gold, NOISE))
    error = np.sqrt((share * (1 - share)).sum()) / share.size
    assert abs((~ROWS.swapped).mean() - share.mean()) < 4 * error
    # Labels of tokens are wrong at the rate, too.
    values = task.token_values(PROBLEM.gold, ROWS.prompts[:, None, None], ROWS.tokens)
    real = np.asarray(task.token_mask(ROWS.tokens))
    wrong = np.asarray((values > 0) != ROWS.right_steps)[real].mean()
    assert abs(wrong - NOISE) < 4 * np.sqrt(NOISE * (1 - NOISE) / real.sum())
    clean = draws.draw_rows(jax.random.key(1), PROBLEM, 0.0, 400, draws.PAIRS)
    np.testing.assert_array_equal(clean.tokens, ROWS.tokens)
    assert clean.swapped.mean() < ROWS.swapped.mean()


def log_ratios(rows):
    """[N, k, 2] of the policy against the start."""
    prompts = jnp.broadcast_to(rows.prompts[:, None, None], rows.tokens.shape[:-1])
    policy, start = (
        np.asarray(task.token_logprobs(table, prompts, rows.tokens).sum(axis=-1), np.float64)
        for table in (POLICY, PROBLEM.start)
    )
    return policy - start


def loss_of(method):
    loss = losses.loss_for(methods.objective_of(method, NOISE))
    return float(jax.jit(loss)(POLICY, PROBLEM.start, ROWS))


def softplus(x):
    return np.logaddexp(0.0, x)


def test_losses_of_pairs_and_groups_by_hand():
    ratios, swapped = log_ratios(ROWS), np.asarray(ROWS.swapped)
    margins = 0.1 * np.where(swapped, -1, 1) * (ratios[..., 0] - ratios[..., 1])
    dpo = softplus(-margins).mean()
    other = softplus(margins).mean()
    assert loss_of("dpo") == pytest.approx(dpo, rel=1e-5)
    assert loss_of("cdpo") == pytest.approx(0.8 * dpo + 0.2 * other, rel=1e-5)
    assert loss_of("robust_dpo") == pytest.approx((0.8 * dpo - 0.2 * other) / 0.6, rel=1e-5)
    sign = np.where(swapped.sum(axis=-1) >= 2, -1, 1)  # of three
    groups = 0.1 * sign * (ratios[..., 0] - ratios[..., 1]).mean(axis=-1)
    assert loss_of("mdpo") == pytest.approx(softplus(-groups).mean(), rel=1e-5)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_kto_by_hand_and_its_baseline_is_a_constant():
    said = losses.labelled_completions(ROWS)
    prompts, tokens, labels = (np.asarray(said[name]) for name in ("prompts", "tokens", "labels"))
    count = len(labels)
    assert count == ROWS.swapped.size * 2 and labels[: count // 2].all() and not labels[-1]
    # The first preferred completion of the second pairs of all rows follows those of the first.
    row = int(np.flatnonzero(np.asarray(ROWS.swapped)[:, 1])[0])
    place = len(ROWS.prompts) + row
    np.testing.assert_array_equal(tokens[place], ROWS.tokens[row, 1, 1])
    np.testing.assert_array_equal(said["step_labels"][place], ROWS.right_steps[row, 1, 1])
    assert prompts[place] == ROWS.prompts[row]

    def ratio(prompts):
        return np.asarray(
            task.token_logprobs(POLICY, prompts, tokens).sum(axis=-1)
            - task.token_logprobs(PROBLEM.start, prompts, tokens).sum(axis=-1),
            np.float64,
        )

    baseline = max(0.0, ratio(np.roll(prompts, -1)).mean())
    values = np.where(labels, 1, -1) * 0.1 * (ratio(prompts) - baseline)
    assert loss_of("kto") == pytest.approx(sigmoid(-values).mean(), rel=1e-5)

    loss = losses.loss_for(methods.objective_of("kto", NOISE))

    def with_constant(logits):
        said_now = task.token_logprobs(logits, prompts, tokens).sum(axis=-1)
        said_then = task.token_logprobs(PROBLEM.start, prompts, tokens).sum(axis=-1)
        above = jnp.where(labels, 1.0, -1.0) * 0.1 * (said_now - said_then - baseline)
        return jax.nn.sigmoid(-above).mean()

    found = jax.jit(jax.grad(loss))(POLICY, PROBLEM.start, ROWS)
    np.testing.assert_allclose(found, jax.grad(with_constant)(POLICY), atol=1e-7)


@pytest.mark.parametrize("method", ["ipo", "simpo", "orpo", "step_kto"])
def test_the_other_losses_are_finite_and_move_the_policy(method):
    rows = jax.tree.map(lambda array: array[:20], ROWS)
    loss = losses.loss_for(methods.objective_of(method, NOISE))
    value, gradient = jax.jit(jax.value_and_grad(loss))(PROBLEM.start, PROBLEM.start, rows)
    assert np.isfinite(value) and np.isfinite(gradient).all() and np.abs(gradient).max() > 1e-4


def test_rankings_by_hand():
    # Ranked wrong by the start by 1 and by 4 nats, and right; the last two are flipped, lost.
    start = np.array([[-2.0, -1.0], [-5.0, -1.0], [-1.0, -2.0], [-3.0, -2.0]])
    policy = np.array([[-1.0, -3.0], [-3.0, -2.0], [-4.0, -3.0], [-2.0, -2.0]])
    lengths = np.array([[1, 1], [3, 1], [1, 1], [1, 2]])
    assert rankings(Said(policy, start, lengths)) == {
        "reward_accuracy": 0.75,
        "ranking_accuracy": 0.5,
        "ranking_accuracy_per_token": 0.5,
        "flipped": pytest.approx(2 / 3),
        "flipped_near": 1.0,
        "flipped_far": 0.0,
    }


def test_the_start_is_worth_nothing_and_the_best_policy_everything():
    gold, kl = measures.worth(PROBLEM, PROBLEM.start)
    assert (float(gold), float(kl)) == pytest.approx((0.0, 0.0), abs=1e-5)
    sure = measures.worth(PROBLEM, POLICY)[0]
    assert 0 < float(sure) < 1


def found_of(count):
    """DPO and a robust DPO that is better by a little in every seed."""
    data = {"start": 0.5, "required_loss": 0.6, "idealised/0.1": 0.9}
    noise = f"{0.3:g}"
    seeds = np.arange(count) / 100

    def values(shift):
        return {"rate": 0.1, **{name: (0.5 + shift + seeds).tolist() for name in measures.MEASURES}}

    return {
        "data": {noise: {name: [value] * count for name, value in data.items()}},
        "dpo": {noise: values(0.0)},
        "robust_dpo": {noise: values(0.02)},
    }


def test_verdicts_need_enough_seeds():
    few, enough = (table.as_markdown(found_of(count)) for count in (5, 8))
    assert "| robust_dpo > dpo | reward accuracy | 30% |" in few
    assert few.count("not distinguishable |") == 1 and "better" not in few
    assert enough.count("| yes |") == 1 and ", better |" in enough


def test_the_readme_shows_what_was_found():
    text, found = (ROOM / "README.md").read_text(), json.loads((ROOM / "found.json").read_text())
    assert table.as_markdown(found) in text
    other = json.loads((ROOM / "overoptimisation.json").read_text())
    assert proxy_table.as_markdown(other) in text
    assert list(other) == [str(size * draws.PAIRS) for size in overoptimisation.SIZES]
    assert set(found) == {"data", *methods.METHODS}
    for values in found.values():
        assert list(values) == [f"{noise:g}" for noise in methods.NOISES]


def test_a_short_run_learns():
    seeds = run.draw_seeds(range(2), 0.0)
    logits = run.train("dpo", 0.0, seeds, np.full(2, 0.1), updates=40)
    for one, (problem, rows) in zip(logits, run.each(seeds), strict=True):
        values = measures.measured(problem, one, rows)
        assert set(values) == set(measures.MEASURES)
        assert values["gold"] > 0.1 and values["kl"] > 0
        assert values["reward_accuracy"] > 0.6 > run.measured(problem, problem.start, rows)["gold"]
    assert logits.shape == (2, PROMPTS, SYMBOLS + 1, SYMBOLS + 1)


def test_the_gold_reward_at_a_kl_by_hand():
    curve = proxy.Curve(*map(np.array, ([0.0, 2.0, 6.0], [0.0, 0.5, 1.0], [0.0, 0.4, 0.2])))
    assert proxy.gold_at(curve, 1.0) == pytest.approx(0.2)
    assert proxy.gold_at(curve, 5.0) == pytest.approx(0.25)
    assert proxy.gold_at(curve, 7.0) == 0.2 and proxy.gold_at(curve, 0.0) == 0.0
    other = curve._replace(kl=curve.kl + 1.0, gold=curve.gold - 0.3)
    assert overoptimisation.turning_kl([curve, other]) == 2.5
    values = overoptimisation.by_seed([curve], np.array([5.0]), 1.0)
    assert values == {
        "kl": [6.0],
        "proxy": [1.0],
        "gold": [0.2],
        "gold_at_turn": [pytest.approx(0.2)],
        "gold_at_dpo": [pytest.approx(0.25)],
    }


def test_a_proxy_says_what_labels_say_and_policies_go_after_it(monkeypatch):
    monkeypatch.setattr(proxy, "STEPS", 40)
    rows = jax.tree.map(lambda array: array[:10], ROWS)
    learnt = jax.jit(functools.partial(proxy.fit_proxy, sees_order=True))(rows)
    blind = jax.jit(functools.partial(proxy.fit_proxy, sees_order=False))(rows)
    assert (blind == blind[:, :1]).all() and not (learnt == learnt[:, :1]).all()
    prompts = rows.prompts[:, None, None]
    scores = task.token_values(learnt, prompts, draws.labelled_sides(rows)).sum(axis=-1)
    assert (scores[..., 0] > scores[..., 1]).mean() > 0.9
    logits = jax.jit(proxy.optimised(1.0))(jax.random.key(3), PROBLEM, learnt)
    kl, share, _ = proxy.curve_of(PROBLEM, learnt, logits)
    assert len(kl) == 3 and kl[0] == pytest.approx(0.0, abs=1e-5) and share[0] == 0
    assert 0 < kl[1] < kl[2] and 0.1 < share[1] < share[2] < 1


def test_claims_of_over_optimisation_need_seeds_that_agree():
    def found_of(count):
        ends = {"kl": [9.0] * count, "proxy": [0.9] * count}
        golds = np.arange(count) / 100
        policy = ends | {"gold": golds, "gold_at_turn": golds + 0.1, "gold_at_dpo": golds}
        policies = dict.fromkeys(overoptimisation.POLICIES, policy)
        return {"60": {"dpo": {"kl": ends["kl"], "gold": golds}} | policies}

    text = proxy_table.as_markdown(found_of(10))
    assert "| rloo: gold at the turn > at the end | 60 | arXiv:2210.10760 | +0.100" in text
    assert text.count("| yes |") == 2 and text.count("| not distinguishable |") == 4
    assert "| yes |" not in proxy_table.as_markdown(found_of(5))


@pytest.mark.parametrize(
    "words, message",
    [
        (["--methods=dop"], "Unknown method 'dop'"),
        (["--noises=0.5"], r"in [0, 0.5), got 0.5 (--noises)"),
        (["--write", "--seeds=2"], "--write is of everything"),
        (["--overoptimisation", "--methods=dpo"], "--overoptimisation has methods"),
    ],
)
def test_what_it_refuses(words, message, capsys):
    spec = importlib.util.spec_from_file_location("preferences", ROOT / "launch/preferences.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.main(words) == 1
    assert message in capsys.readouterr().err
