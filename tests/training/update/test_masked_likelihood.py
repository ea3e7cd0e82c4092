"""The bound of masked diffusion: against enumeration, and that nothing around a row changes it."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.parallel.mesh import make_mesh
from rljax.parallel.rules import put_rows, replicated
from rljax.sampling.diffusion import guided
from rljax.sampling.distribution import TokenFilter
from rljax.training.update.likelihood import likelihood_rows
from rljax.training.update.logprobs import FILL_STEPS, LIKELIHOOD_EPOCH, LIKELIHOOD_KEYS, in_parts
from rljax.training.update.masked_likelihood import canvas_of, elbo
from rljax.training.update.rows import completion_rows, take_rows

MASK = 12
PROMPT, SLOTS = 4, 6


def rows_of(lengths, *, prompt=PROMPT, slots=SLOTS, step=1, seed=0):
    """Rows whose completions have these lengths, with keys by their number."""
    count, rng = len(lengths), np.random.default_rng(0)
    prompts = rng.integers(0, MASK, (count, PROMPT))
    prompts = np.pad(prompts, ((0, 0), (prompt - PROMPT, 0)))
    seen = np.arange(prompt) >= prompt - PROMPT
    completions = np.pad(rng.integers(0, MASK, (count, SLOTS)), ((0, 0), (0, slots - SLOTS)))
    mask = np.arange(slots) < np.array(lengths)[:, None]
    rows = completion_rows(prompts, np.tile(seen, (count, 1)), completions, mask)
    ids = np.arange(count)
    return rows | likelihood_rows(seed, step, ids, np.zeros_like(ids))


@pytest.fixture
def model(tiny_network, one_device):
    """The network, its parameters, and estimate(rows, params, **fields)."""
    network = tiny_network(causal=False, mask_token=MASK)
    params = network.init(jax.random.key(0), one_device)

    def estimate(rows, params=params, network=network, textless=(), **fields):
        key = jax.random.wrap_key_data(rows[LIKELIHOOD_KEYS])
        token_filter = TokenFilter(temperature=0.5, textless=textless)
        return elbo(network, params, rows, token_filter, key=key, **fields)

    return network, params, estimate


def logprobs_given(network, params, tokens, hidden):
    """Log-probabilities of the tokens of one row [S], some of them hidden."""
    shown = jnp.where(jnp.asarray(hidden), MASK, jnp.asarray(tokens))[None]
    places = jnp.arange(len(tokens))[None]
    bound = network.bind(params)
    logits = bound.logits(bound(shown, places, jnp.ones_like(places)).hidden)[0]
    logits = logits.at[:, MASK].set(-jnp.inf)[:, : network.config.vocab_size]
    return np.asarray(jax.nn.log_softmax(logits))[np.arange(len(tokens)), np.asarray(tokens)]


def test_its_mean_is_the_enumerated_bound_which_is_below_the_likelihood(model):
    """Two tokens: every set of hidden ones, and both orders of filling them."""
    network, params, estimate = model
    rows = rows_of([2])
    tokens = rows["tokens"][0, : PROMPT + 2]
    known = {}
    for hidden in itertools.product([False, True], repeat=2):
        known[hidden] = logprobs_given(network, params, tokens, [False] * PROMPT + [*hidden])[-2:]
    both = known[True, True]
    bound = 0.5 * both.sum() + 0.5 * 2 * 0.5 * (known[True, False][0] + known[False, True][1])
    orders = both[0] + known[False, True][1], both[1] + known[True, False][0]
    exact = np.logaddexp(*orders) - np.log(2)
    assert bound <= exact
    many = take_rows(rows, np.zeros(2000, int))
    many |= likelihood_rows(0, 1, np.arange(2000), np.zeros(2000, int))
    for masking in ("uniform_count", "complementary"):
        run = functools.partial(estimate, masking=masking, mask_draws=2)
        found = np.asarray(jax.jit(run)(many).logprobs)[:, :2].sum(axis=1)
        error = found.std() / np.sqrt(len(found))
        assert abs(found.mean() - bound) <= 4 * error + 1e-5, masking


def test_everything_hidden_is_one_pass_over_an_open_canvas(model):
    """The slots behind the end are seen as masks too, as when they were sampled."""
    network, params, estimate = model
    rows = rows_of([3])
    tokens = np.concatenate([rows["tokens"][0, :PROMPT], rows["tokens"][0, PROMPT:]])
    found = jax.jit(functools.partial(estimate, masking="full", open_canvas=True))(rows)
    hidden = np.arange(PROMPT + SLOTS) >= PROMPT
    expected = logprobs_given(network, params, tokens, hidden)[PROMPT:]
    np.testing.assert_allclose(found.logprobs[0, :3], expected[:3], rtol=2e-5)
    assert not found.logprobs[0, 3:].any() and not found.more["draw_weights"][0, 3:].any()
    closed = jax.jit(functools.partial(estimate, masking="full"))(rows)
    short = logprobs_given(network, params, tokens[: PROMPT + 3], hidden[: PROMPT + 3])[PROMPT:]
    np.testing.assert_allclose(closed.logprobs[0, :3], short, rtol=2e-5)


def test_the_bound_is_over_the_ids_that_the_sampler_draws(model):
    """At temperature 1, whatever tokens are drawn at."""
    network, params, estimate = model
    rows = rows_of([1])
    token = rows["tokens"][0, PROMPT]
    tokens = jnp.asarray(rows["tokens"][:, : PROMPT + 1]).at[0, PROMPT].set(MASK)
    places, bound = jnp.arange(PROMPT + 1)[None], network.bind(params)
    logits = bound.logits(bound(tokens, places, jnp.ones_like(places)).hidden)[0, PROMPT]
    without = 3 if token != 3 else 4
    kept = np.delete(np.asarray(logits, np.float64), [without, MASK])
    expected = float(logits[token]) - np.log(np.exp(kept).sum())
    found = estimate(rows, masking="full", textless=((without, without + 1),)).logprobs
    np.testing.assert_allclose(found[0, 0], expected, rtol=2e-5)


def test_a_trajectory_scores_each_token_as_it_was_filled(model):
    """Filled third, first, fourth, then two at once; the sum is that of this order."""
    network, params, estimate = model
    rows = rows_of([5])
    tokens, order = rows["tokens"][0, : PROMPT + 5], [[2], [0], [3], [1, 4]]
    steps, expected, open_slots = np.zeros((1, SLOTS), np.int32), np.zeros(5), set(range(5))
    for number, places in enumerate(order):
        hidden = [False] * PROMPT + [place in open_slots for place in range(5)]
        logprobs = logprobs_given(network, params, tokens, hidden)[PROMPT:]
        expected[places], steps[0, places] = logprobs[places], 3 * number
        open_slots -= set(places)
    run = functools.partial(estimate, masking="trajectory", mask_draws=4)
    found = run(rows | {FILL_STEPS: steps})
    np.testing.assert_allclose(found.logprobs[0, :5], expected, rtol=3e-5)
    with pytest.raises(ValueError, match="only samples of the policy do"):
        run(rows)


def test_guidance_is_that_of_the_sampler(model):
    """Logits l_u + (s + 1) (l_c - l_u), l_u without the prompt."""
    network, params, estimate = model
    rows = rows_of([2])
    tokens = jnp.asarray(rows["tokens"][0, : PROMPT + 2])
    places, bound = jnp.arange(len(tokens))[None], network.bind(params)
    seen = tokens.at[PROMPT:].set(MASK), jnp.full_like(tokens, MASK)
    with_prompt, without = (
        bound.logits(bound(shown[None], places, jnp.ones_like(places)).hidden)[0, PROMPT:]
        for shown in seen
    )
    logits = guided(with_prompt, without, 1.5).at[:, MASK].set(-jnp.inf)
    logprobs = jax.nn.log_softmax(logits[:, : network.config.vocab_size])
    expected = np.asarray(logprobs)[np.arange(2), np.asarray(tokens[PROMPT:])]
    found = estimate(rows, masking="full", guidance_scale=1.5)
    np.testing.assert_allclose(found.logprobs[0, :2], expected, rtol=3e-5)


def test_a_canvas_by_hand():
    """Prompt padded on the left, two tokens, then open slots; an empty row has none."""
    rows = completion_rows(
        np.ones((2, 3), int), np.array([[False, True, True]] * 2), np.ones((2, 4), int),
        np.array([[True, True, False, False], [False] * 4]),
    )  # fmt: skip
    canvas = jax.tree.map(np.asarray, canvas_of(rows, open_canvas=True))
    assert canvas.segment_ids.tolist() == [[0, 1, 1, 1, 1, 1, 1], [0, 1, 1, 0, 0, 0, 0]]
    assert canvas.positions[0].tolist() == [0, 0, 1, 2, 3, 4, 5]
    assert canvas.open[0].tolist() == [False] * 5 + [True] * 2
    closed = canvas_of(rows, open_canvas=False)
    assert closed.segment_ids[0].tolist() == [0, 1, 1, 1, 1, 0, 0]


LENGTHS = [6, 5, 4, 3, 2, 1, 6, 0]
FIELDS = dict(mask_draws=2, mask_block=2, open_canvas=True, context_mask_rate=0.3)


@pytest.mark.parametrize("masking", ["bernoulli", pytest.param("block", marks=pytest.mark.slow)])
def test_nothing_around_a_row_changes_it(model, masking):
    """Neither its place, nor other rows, nor parts, nor padding; another step has other masks."""
    _, params, estimate = model
    fields = FIELDS | dict(masking=masking)
    run = jax.jit(functools.partial(estimate, **fields))
    whole = run(rows_of(LENGTHS))

    def same(found, index, slots=SLOTS):
        for name in ("draw_logprobs", "draw_weights"):
            a, b = found.more[name][:, :SLOTS], whole.more[name][np.array(index)]
            counted = np.asarray(whole.more["draw_weights"])[np.array(index)] > 0
            np.testing.assert_allclose(np.where(counted, a, 0), np.where(counted, b, 0), atol=2e-5)

    same(run(take_rows(rows_of(LENGTHS), [5, 2])), [5, 2])
    same(run(rows_of(LENGTHS, prompt=PROMPT + 3)), range(8))
    parts = in_parts(lambda _, rows: run(rows)._asdict(), 4, rows_of(LENGTHS), params)
    np.testing.assert_allclose(parts["logprobs"], whole.logprobs, atol=2e-5)
    other = run(rows_of(LENGTHS, step=2)).more["draw_weights"]
    assert (np.asarray(other) != np.asarray(whole.more["draw_weights"])).any()


def test_masks_do_not_repeat_from_step_to_step(model):
    """Reseeding by a small number made masks cycle in other code: here no two steps share one."""
    _, _, estimate = model
    run = jax.jit(functools.partial(estimate, masking="uniform_count"))
    seen = {
        (np.asarray(run(rows_of([6] * 4, step=s)).more["draw_weights"]) > 0).tobytes()
        for s in range(40)
    }
    assert len(seen) == 40


def test_epochs_of_a_step_have_their_own_masks(model):
    _, _, estimate = model
    run = jax.jit(functools.partial(estimate, epochs=2, masking="uniform_count"))
    rows = rows_of([6, 6, 6])
    first = run(rows | {LIKELIHOOD_EPOCH: np.zeros(3, np.int32)})
    second = run(rows | {LIKELIHOOD_EPOCH: np.ones(3, np.int32)})
    np.testing.assert_array_equal(first.logprobs, run(rows).logprobs)
    assert (np.asarray(first.logprobs) != np.asarray(second.logprobs)).any()


def test_plain_log_probabilities_count_as_their_share_says(model):
    """Of the hidden tokens alone, in mean over them: sum of share * lp / n = mean over hidden."""
    _, _, estimate = model
    rows = rows_of([6, 4])
    run = functools.partial(estimate, masking="uniform_count", plain_logprobs=True)
    found = jax.jit(run)(rows)
    hidden = np.asarray(found.more["draw_weights"])[..., 0] > 0
    plain = np.asarray(found.more["draw_logprobs"])[..., 0]
    np.testing.assert_allclose(found.logprobs, np.where(hidden, plain, 0), rtol=1e-6)
    share = np.asarray(found.more["token_share"])
    mean = (share * np.asarray(found.logprobs)).sum(axis=1) / np.array([6, 4])
    expected = [row[h].mean() for row, h in zip(plain, hidden, strict=True)]
    np.testing.assert_allclose(mean, expected, rtol=1e-5)


def test_shifted_outputs_predict_the_token_after_them(model, tiny_network):
    """Dream's: token i from slot i - 1, the first one from the prompt's last slot."""
    network, params, estimate = model
    shifted = tiny_network(causal=False, mask_token=MASK, shift_logits=True)
    rows = rows_of([6])
    found = estimate(rows, network=shifted, masking="full")
    tokens, hidden = rows["tokens"][0], np.arange(PROMPT + SLOTS) >= PROMPT
    moved = np.concatenate([tokens[1:], tokens[:1]])  # what each slot is asked for
    bound = network.bind(params)
    shown = jnp.where(jnp.asarray(hidden), MASK, jnp.asarray(tokens))[None]
    places = jnp.arange(len(tokens))[None]
    logits = bound.logits(bound(shown, places, jnp.ones_like(places)).hidden)[0]
    logits = logits.at[:, MASK].set(-jnp.inf)[:, : network.config.vocab_size]
    each = np.asarray(jax.nn.log_softmax(logits))[np.arange(len(tokens)), moved]
    np.testing.assert_allclose(found.logprobs[0], each[PROMPT - 1 : -1], rtol=2e-5)


def test_memory_does_not_grow_with_the_draws(tiny_network, one_device):
    """Of a gradient step: passes that are run again keep nothing but their masks."""
    network = tiny_network(causal=False, mask_token=MASK, width=32, layers=4)
    params = network.init(jax.random.key(0), one_device)
    rows = rows_of([6] * 64)
    key = jax.random.wrap_key_data(rows[LIKELIHOOD_KEYS])

    def loss(params, draws, keep):
        fields = dict(mask_draws=draws, keep_passes=keep)
        return elbo(network, params, rows, TokenFilter(), key=key, **fields).logprobs.sum()

    def step(draws, keep):
        compiled = jax.jit(jax.grad(functools.partial(loss, draws=draws, keep=keep)))
        made = compiled.lower(params).compile()
        return made, made.memory_analysis().temp_size_in_bytes

    few, many = step(2, False), step(8, False)
    kept = step(8, True)
    assert many[1] < 1.2 * few[1] and kept[1] > 2 * many[1]
    for a, b in zip(*(jax.tree.leaves(m[0](params)) for m in (many, kept)), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-5)


def test_what_cannot_be_estimated_is_refused(model, tiny_network):
    _, params, estimate = model
    with pytest.raises(ValueError, match="mask_token=-1"):
        estimate(rows_of([3]), network=tiny_network(causal=False))
    with pytest.raises(ValueError, match="one completion in a row.*share_prompts"):
        rows = rows_of([3])
        estimate(rows | {"mask": rows["mask"][:, None]})


def test_devices_change_nothing(model):
    """Rows spread over eight devices draw the masks that they draw on one."""
    network, params, estimate = model
    run = functools.partial(estimate, **FIELDS, masking="bernoulli")
    alone = jax.jit(run)(rows_of(LENGTHS))
    mesh = make_mesh({"data": 8})
    with jax.set_mesh(mesh):
        placed = put_rows(rows_of(LENGTHS), mesh)
        copied = jax.device_put(jax.device_get(params), replicated(mesh))
        spread = jax.jit(lambda rows, params: run(rows, params=params))(placed, copied)
    np.testing.assert_array_equal(spread.more["draw_weights"], alone.more["draw_weights"])
    np.testing.assert_allclose(spread.logprobs, alone.logprobs, atol=2e-5)


@pytest.mark.slow
def test_shared_masks_and_more_draws_make_differences_of_bounds_sure(model):
    """VRPO (arXiv:2505.19223): the score of policy and reference, over 256 draws of masks.

    The policy is the reference and a little noise, as between updates.
    """
    network, params, estimate = model
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(5), len(leaves))
    noise = [0.02 * jax.random.normal(k, x.shape) for k, x in zip(keys, leaves, strict=True)]
    moved = jax.tree.unflatten(tree, [x + e for x, e in zip(leaves, noise, strict=True)])
    many = take_rows(rows_of([6]), np.zeros(256, int))

    def bound(params, draws, step):
        rows = many | likelihood_rows(0, step, np.arange(256), np.zeros(256, int))
        shares = jax.jit(functools.partial(estimate, mask_draws=draws))(rows, params=params)
        return np.asarray(shares.logprobs).sum(axis=1)

    def variance(draws, step=1):
        return (bound(moved, draws, 1) - bound(params, draws, step)).var()

    assert variance(8) < 0.5 * variance(1)
    assert variance(4) < 0.1 * variance(4, step=2)  # the reference with masks of its own
