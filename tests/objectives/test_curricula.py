"""Curricula: which problems they take, and what they make of outcomes."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.objectives.curricula import CURRICULA, Outcomes, Problems, Turn
from rljax.objectives.curricula.curriculum import draw_of_sources, epoch_places
from rljax.objectives.curricula.dump import mean_sizes, remember
from rljax.objectives.curricula.greso import skip_probability
from rljax.objectives.curricula.ordered import moved_share
from rljax.objectives.values import prompt_mean

STREAM = jax.random.key(5)


def turn(number, count, predict=None):
    return Turn(jax.random.fold_in(STREAM, number), STREAM, jnp.int32(number), count, predict)


def seen(index, right, samples=4, advantages=None):
    """Groups of so many samples, of which the first `right` are right."""
    correct = jnp.arange(samples) < jnp.asarray(right)[:, None]
    present = jnp.ones(correct.shape, bool)
    return Outcomes(jnp.asarray(index), correct.astype(jnp.float32), correct, present, advantages)


def taken(curriculum, problems, calls, count, state=None, predict=None):
    state = curriculum.first(problems, STREAM) if state is None else state
    found = []
    for call in range(1, calls + 1):
        index, state = curriculum.take(state, problems, turn(call, count, predict))
        found.append(np.asarray(index))
    return np.concatenate(found), state


def test_every_epoch_is_a_permutation_however_it_is_cut():
    whole = np.asarray(epoch_places(STREAM, jnp.int32(0), 21, 7))
    assert all(sorted(part) == list(range(7)) for part in whole.reshape(3, 7).tolist())
    assert len({tuple(part) for part in whole.reshape(3, 7).tolist()}) == 3
    parts = [np.asarray(epoch_places(STREAM, jnp.int32(s), 5, 7)) for s in range(0, 20, 5)]
    assert (np.concatenate(parts) == whole[:20]).all()


@pytest.mark.contract
def test_problems_come_from_easy_to_hard_and_back():
    problems = Problems(6, difficulty=np.array([3, 1, 2, 1, 3, 2], np.float32))
    order, _ = taken(CURRICULA["easy_to_hard"](), problems, 4, 3)
    assert problems.difficulty[order].tolist() == [1, 1, 2, 2, 3, 3] * 2
    assert sorted(order[:6]) == sorted(order[6:]) == list(range(6))
    order, _ = taken(CURRICULA["easy_to_hard"](hardest_first=True), problems, 1, 6)
    assert problems.difficulty[order].tolist() == [3, 3, 2, 2, 1, 1]


def test_a_band_keeps_what_lies_within_and_refuses_to_be_empty():
    problems = Problems(5, difficulty=np.array([0.0, 0.2, 0.5, 0.8, 1.0], np.float32))
    order, _ = taken(CURRICULA["band"](difficulty_low=0.2, difficulty_high=0.8), problems, 3, 2)
    assert sorted(order[:3]) == sorted(order[3:]) == [1, 2, 3]
    with pytest.raises(ValueError, match=r"0\.3 to 0\.4: they go from 0 to 1"):
        taken(CURRICULA["band"](difficulty_low=0.3, difficulty_high=0.4), problems, 1, 2)
    with pytest.raises(ValueError, match="difficulty_high is 0.1; it must be >= difficulty_low"):
        CURRICULA["band"](difficulty_low=0.5, difficulty_high=0.1)


def test_a_mixture_draws_sources_by_weight_and_problems_evenly():
    problems = Problems(10, sources=np.array([0] * 2 + [1] * 8), source_names=("a", "b"))
    drawn = np.asarray(draw_of_sources(STREAM, jnp.array([0.25, 0.75]), problems, 8000))
    counts = np.bincount(drawn, minlength=10) / 8000
    error = 4 * np.sqrt(0.125 / 8000)
    np.testing.assert_allclose(counts, [0.125] * 2 + [0.75 / 8] * 8, atol=error)
    with pytest.raises(ValueError, match="3 numbers for 2 sources: a, b"):
        CURRICULA["mixture"](source_weights=(1, 1, 1)).first(problems, STREAM)
    for weights in ((0, 0), (2, -1), ()):
        with pytest.raises(ValueError, match="source_weights is .*numbers >= 0"):
            CURRICULA["mixture"](source_weights=weights)


def test_vade_without_decay_is_the_conjugate_update():
    curriculum, problems = CURRICULA["vade"](chosen_decay=1.0, other_decay=1.0), Problems(3)
    state = curriculum.first(problems, STREAM)
    state = curriculum.observe(state, problems, seen([0, 2], [1, 4]))
    state = curriculum.observe(state, problems, seen([0, 1], [2, 0]))
    assert state["right"].tolist() == [3, 0, 4] and state["wrong"].tolist() == [5, 4, 0]


def test_vade_greedy_takes_the_rates_next_to_a_third():
    """I = p (1 - p)^2 is largest at 1/3; p (1 - p) at 1/2."""
    rates = np.linspace(0.05, 0.95, 19)
    state = {"right": jnp.asarray(1000 * rates - 1), "wrong": jnp.asarray(1000 * (1 - rates) - 1)}
    problems = Problems(19)
    for information, best in (("variance_room", 0.35), ("variance", 0.5)):
        curriculum = CURRICULA["vade"](information=information, posterior_draw=False)
        (first,), _ = taken(curriculum, problems, 1, 1, state)
        assert rates[first] == pytest.approx(best)


def simulated(name, rates, *, steps, count, samples=8, **fields):
    """Share of mixed groups in each step, and how often each problem was sampled."""
    curriculum, problems = CURRICULA[name](**fields), Problems(len(rates))
    rng, shares, visits = np.random.default_rng(0), [], np.zeros(len(rates), int)
    state = curriculum.first(problems, STREAM)
    take = jax.jit(lambda state, call: curriculum.take(state, problems, turn(call, count)))
    observe = jax.jit(lambda state, outcomes: curriculum.observe(state, problems, outcomes))
    for step in range(1, steps + 1):
        index, state = take(state, step)
        index = np.asarray(index)
        assert len(set(index.tolist())) == count
        right = rng.binomial(samples, rates[index])
        state = observe(state, seen(index, right, samples))
        shares.append(((right > 0) & (right < samples)).mean())
        visits[index] += 1
    return np.array(shares), visits, state


@pytest.mark.contract
def test_vade_finds_the_problems_with_signal_and_visits_all():
    """500 hidden rates, most of them 0 or 1: the share of mixed groups well above uniform."""
    rates = np.random.default_rng(1).choice([0.0, 1.0, 0.4], 500, p=[0.4, 0.4, 0.2])
    shares, visits, _ = simulated("vade", rates, steps=150, count=32)
    uniform = 0.2 * (1 - 0.4**8 - 0.6**8)
    assert shares[-30:].mean() > 2 * uniform
    assert (visits > 0).all()


def test_dump_keeps_the_latest_sizes_of_each_source():
    """The ring against a deque of the same length, batches larger than it included."""
    window, rng = 7, np.random.default_rng(2)
    kept = [collections.deque(maxlen=window) for _ in range(3)]
    state = {"window": jnp.zeros((3, window)), "seen": jnp.zeros(3, jnp.int32)}
    for size in (4, 30, 1, 9):
        source = rng.integers(0, 3, size)
        sizes, present = rng.random(size).astype(np.float32), rng.random(size) < 0.8
        state = remember(state, jnp.asarray(source), jnp.asarray(sizes), jnp.asarray(present))
        for where, value, here in zip(source, sizes, present, strict=True):
            if here:
                kept[where].append(value)
        expected = [np.mean(each) if each else 0.0 for each in kept]
        np.testing.assert_allclose(mean_sizes(state), expected, rtol=1e-6)


def test_dump_chooses_evenly_first_and_then_what_moves():
    curriculum = CURRICULA["dump"](exploration_weight=0.0)
    problems = Problems(4, sources=np.array([0, 0, 1, 1]), source_names=("easy", "hard"))
    state = curriculum.first(problems, STREAM)
    assert list(curriculum.metrics(state, problems).values()) == [0.5, 0.5]
    advantages = jnp.array([[0.0] * 4, [0.5, -0.5, 0.5, -0.5]])
    state = curriculum.observe(state, problems, seen([1, 2], [4, 2], 4, advantages))
    shares = curriculum.metrics(state, problems)
    odds = np.exp(0.5 / 0.1)  # mean |A| of 0 and 0.5 at temperature 0.1
    assert float(shares["probability/hard"]) == pytest.approx(odds / (1 + odds), rel=1e-5)
    flipped = curriculum.observe(
        curriculum.first(problems, STREAM), problems, seen([1, 2], [4, 2], 4, -advantages)
    )
    assert curriculum.metrics(flipped, problems) == shares


def test_hard_problems_come_again_until_they_are_solved():
    curriculum, problems = CURRICULA["hard_replay"](replay_share=0.5), Problems(12)
    plain, _ = taken(CURRICULA["hard_replay"](), problems, 3, 4)
    assert sorted(plain) == list(range(12))  # nothing is hard yet: an epoch
    index, state = taken(curriculum, problems, 1, 4)
    state = curriculum.observe(state, problems, seen(index, [0, 1, 2, 0]))
    assert set(np.flatnonzero(state["hard"])) == {index[0], index[1], index[3]}
    assert curriculum.metrics(state, problems)["hard_share"] == 0.25
    again, after = curriculum.take(state, problems, turn(2, 4))
    # Two of the three hard ones, and the two that the epoch has next.
    assert set(np.asarray(again[:2])) < set(np.flatnonzero(state["hard"]))
    np.testing.assert_array_equal(again[2:], plain[4:6])
    assert after["taken"] == 6
    # Solved once, it is hard no more, even where another visit of the step failed; and a group
    # without scores says nothing.
    twice = jnp.array([index[0], index[0], index[1], index[3]])
    outcomes = seen(twice, [0, 4, 4, 4])
    outcomes = outcomes._replace(present=outcomes.present.at[3].set(False))
    state = curriculum.observe(after, problems, outcomes)
    assert set(np.flatnonzero(state["hard"])) == {index[3]}
    draws = [int(curriculum.take(state, problems, turn(n, 4))[0][0]) for n in range(3, 6)]
    assert draws == [index[3]] * 3
    with pytest.raises(ValueError, match="replay_share"):
        CURRICULA["hard_replay"](replay_share=0.0)


def test_greso_counts_visits_in_a_row_and_one_with_signal_ends_them():
    curriculum, problems = CURRICULA["greso"](), Problems(3)
    state = curriculum.first(problems, STREAM)
    assert skip_probability(state, retry_probability=0.01).tolist() == [0, 0, 0]
    for _ in range(2):
        state = curriculum.observe(state, problems, seen([0, 1], [4, 0]))
    np.testing.assert_allclose(skip_probability(state, retry_probability=0.01), [0.75, 0.75, 0])
    state = curriculum.observe(state, problems, seen([0, 1], [2, 4]))
    np.testing.assert_allclose(skip_probability(state, retry_probability=0.01), [0, 0.5, 0])


def test_greso_samples_a_solved_problem_now_and_then():
    """Half of 200 problems are solved: they are skipped, and still come again."""
    rates = np.where(np.arange(200) % 2, 0.5, 1.0)
    shares, visits, state = simulated("greso", rates, steps=200, count=20)
    mixed = 1 - 2 * 0.5**8
    assert shares[-50:].mean() > 0.75 * mixed > shares[:5].mean()
    assert (visits[::2] > 1).all() and visits[1::2].mean() > 2 * visits[::2].mean()
    assert float(state["hard_retry"]) == pytest.approx(0.95)  # hardly any group was hard


def test_greso_moves_its_probabilities_once_a_step_after_the_first_epoch():
    curriculum, problems = CURRICULA["greso"](), Problems(6)
    state = curriculum.first(problems, STREAM)
    counted = {"groups": jnp.int32(10), "easy_groups": jnp.int32(5), "hard_groups": jnp.int32(0)}
    _, early = curriculum.take(state | counted, problems, turn(2, 3))
    assert float(early["easy_retry"]) == float(early["hard_retry"]) == 0.5
    state = state | counted | {"taken": jnp.int32(6)}
    _, moved = curriculum.take(state, problems, turn(2, 3))
    assert float(moved["easy_retry"]) == pytest.approx(0.49)
    assert float(moved["hard_retry"]) == pytest.approx(0.51)
    _, same = curriculum.take(moved | counted, problems, turn(2, 3))  # a second call of the step
    assert same["easy_retry"] == moved["easy_retry"]
    _, bounded = curriculum.take(state | {"easy_retry": jnp.float32(0.05)}, problems, turn(2, 3))
    assert float(bounded["easy_retry"]) == pytest.approx(0.05)


def test_greso_hands_out_problems_where_nearly_all_are_skipped():
    curriculum, problems = CURRICULA["greso"](), Problems(8)
    state = curriculum.first(problems, STREAM) | {"easy_streak": jnp.full(8, 20, jnp.int32)}
    index, after = curriculum.take(state, problems, turn(1, 6))
    assert len(set(index.tolist())) == 6  # none twice, though nearly all would be skipped
    assert 6 <= int(after["taken"]) <= 14 and int(after["skipped"]) == int(after["taken"]) - 6


def test_pcl_takes_what_lies_next_to_the_target_in_the_order_of_epochs():
    values = jnp.asarray(np.random.default_rng(3).random(40), jnp.float32)
    curriculum, problems = CURRICULA["pcl"](target_value=0.4), Problems(40)
    order, state = taken(curriculum, problems, 3, 5, predict=lambda index: values[index])
    pools = np.asarray(epoch_places(STREAM, jnp.int32(0), 60, 40)).reshape(3, 20)
    for pool, chosen in zip(pools, order.reshape(3, 5), strict=True):
        distance = np.abs(np.asarray(values)[pool] - 0.4)
        assert chosen.tolist() == pool[np.argsort(distance, kind="stable")[:5]].tolist()
    assert int(state["taken"]) == 60


@pytest.mark.parametrize("name", ["pcl", "greso"])
def test_no_problem_comes_twice_in_a_call_that_goes_over_the_end_of_an_epoch(name):
    fields = {"pool_factor": 2} if name == "pcl" else {}
    curriculum, problems = CURRICULA[name](**fields), Problems(10)
    order, _ = taken(curriculum, problems, 30, 4, predict=lambda index: index / 10.0)
    assert all(len(set(row)) == 4 for row in order.reshape(30, 4).tolist())


def test_a_group_without_a_score_says_nothing():
    problems = Problems(2)
    silent = seen([0], [0])._replace(present=jnp.zeros((1, 4), bool))
    for name in ("vade", "greso"):
        curriculum = CURRICULA[name]()
        state = curriculum.first(problems, STREAM)
        state = curriculum.observe(state, problems, seen([0, 1], [0, 4]))
        after = curriculum.observe(state, problems, silent)
        own = [key for key in state if key in ("right", "wrong") or key.endswith("streak")]
        for key in own:
            expected = np.asarray(state[key]) * (0.999 if name == "vade" else 1)
            np.testing.assert_allclose(after[key], expected, rtol=1e-6)


def test_pcl_of_a_pool_as_large_as_the_batch_takes_every_candidate():
    curriculum, problems = CURRICULA["pcl"](pool_factor=1), Problems(12)
    order, _ = taken(curriculum, problems, 2, 6, predict=lambda index: index / 12.0)
    assert sorted(order.tolist()) == list(range(12))


def test_pcl_mixes_in_other_candidates():
    curriculum, problems = CURRICULA["pcl"](random_share=0.5), Problems(400)
    order, _ = taken(curriculum, problems, 10, 10, predict=lambda index: index / 400.0)
    order = order.reshape(10, 10)
    near = np.abs(order / 400.0 - 0.5)
    assert all(len(set(row)) == 10 for row in order.tolist())
    # The closest eighth of 40 candidates on average against any of the others.
    assert near[:, :5].max() < 0.2 < near[:, 5:].max()


def test_the_value_of_a_prompt_is_the_mean_of_its_samples_at_the_first_token():
    mask = jnp.array([[True, True], [True, False], [True, True], [False, False]])
    scores, groups = jnp.array([1.0, 0.0, 1.0, 9.0]), jnp.array([0, 0, 1, 1])
    returns, where = prompt_mean(scores, groups, mask)
    assert returns.tolist() == [[0.5, 0], [0.5, 0], [1, 0], [0, 0]]
    assert where.tolist() == [[True, False]] * 3 + [[False, False]]


def test_a_moving_mixture_goes_from_one_set_of_weights_to_another():
    """RMT: continuous, a line between two steps; a weight of 0 is never drawn."""
    shares = [float(moved_share(np.int32(step), 3, 7)) for step in range(1, 10)]
    np.testing.assert_allclose(shares, [0, 0, 0, 0.25, 0.5, 0.75, 1, 1, 1])
    problems = Problems(6, sources=np.array([0, 1, 2, 0, 1, 2]), source_names=("a", "b", "c"))
    fields = dict(source_weights=(1, 0, 0), final_weights=(0, 1, 3), moves_from=3, moves_until=7)
    curriculum = CURRICULA["moving_mixture"](**fields)
    state = curriculum.first(problems, STREAM)

    def sources(step):
        """The share of each source in 2000 draws of a step."""
        index, _ = curriculum.take(state, problems, turn(step, 2000))
        return np.bincount(np.asarray(problems.sources)[np.asarray(index)], minlength=3) / 2000

    assert sources(3).tolist() == [1, 0, 0] and sources(7)[0] == 0
    np.testing.assert_allclose(sources(5), [0.5, 0.125, 0.375], atol=0.05)
    np.testing.assert_allclose(sources(9), [0, 0.25, 0.75], atol=0.05)
    for words, message in (
        (dict(moves_from=4, moves_until=4), "moves_until is 4.*> moves_from"),
        (dict(final_weights=(0.0,)), "final_weights is .*numbers >= 0"),
    ):
        with pytest.raises(ValueError, match=message):
            CURRICULA["moving_mixture"](**words)
    with pytest.raises(ValueError, match="final_weights has 2 numbers for 3 sources"):
        CURRICULA["moving_mixture"](final_weights=(1, 1)).first(problems, STREAM)
