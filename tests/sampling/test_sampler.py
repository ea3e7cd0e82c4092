"""The sampler's contracts: the trainer's log-probabilities, batch invariance, stops, exactness."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from rljax.models.transformer import Transformer
from rljax.parallel.rules import put_rows
from rljax.sampling.distribution import TokenFilter
from rljax.sampling.keys import Purpose, purpose_key
from rljax.sampling.sampler import Rollouts, SamplingConfig, make_sampler
from rljax.training.logprobs import completion_statistics, make_score, model_rows
from rljax.training.rows import completion_rows

LENGTHS = (1, 6, 3, 4)  # of four prompts
KEY = purpose_key(0, Purpose.ROLLOUTS)


@functools.cache
def peaked_params(network, mesh):
    """Parameters whose distributions are far from uniform."""
    params = network.init(jax.random.key(1), mesh)
    return {**params, "embedding": params["embedding"] * 3}


@functools.cache
def jit_sampler(network, config: SamplingConfig):
    return jax.jit(make_sampler(network, config))


@functools.cache
def jit_forward(network):
    """forward(params, [S] tokens, all real) -> [S, V] logits."""

    def forward(params, tokens):
        row, places = jnp.array(tokens)[None], jnp.arange(len(tokens))[None]
        model = network.bind(params)
        return model.logits(model(row, places, jnp.ones_like(row)).hidden)[0]

    return jax.jit(forward)


def config_of(**fields) -> SamplingConfig:
    names = ("temperature", "top_k", "top_p", "min_p")
    token_filter = TokenFilter(**{name: fields.pop(name) for name in names if name in fields})
    defaults = dict(samples_per_prompt=3, max_new_tokens=7, stop_tokens=(2,), pad_token=0)
    return SamplingConfig(**{**defaults, **fields}, token_filter=token_filter)


def left_padded(lengths=LENGTHS, extra=0, vocab_size=13):
    """Prompts [B, P] and their mask; prompt b depends on b only. Padding holds any ids."""
    slots = max(lengths) + extra
    tokens = np.random.default_rng(extra).integers(0, vocab_size, (len(lengths), slots))
    mask = np.arange(slots) >= slots - np.array(lengths)[:, None]
    for row, length in enumerate(lengths):
        rng = np.random.default_rng(100 + row)
        tokens[row, slots - length :] = rng.integers(0, vocab_size, length)
    return jnp.asarray(tokens, jnp.int32), jnp.asarray(mask)


def sample(network, params, config, prompts, mask, ids, key=KEY, step=4) -> Rollouts:
    sampler = jit_sampler(network, config)
    out = sampler(params, prompts, mask, jnp.asarray(ids, jnp.int32), key, jnp.int32(step))
    return jax.device_get(out)


def trainer_rows(rollouts, prompts, mask):
    group = rollouts.tokens.shape[1]
    flat = lambda x: x.reshape(-1, x.shape[-1])  # noqa: E731
    repeat = lambda x: np.repeat(np.asarray(x), group, axis=0)  # noqa: E731
    return completion_rows(
        repeat(prompts), repeat(mask), flat(rollouts.tokens), flat(rollouts.mask)
    )


# --- sampler = trainer ---------------------------------------------------------------------------

FILTERS = {
    "plain": dict(),
    "cold": dict(temperature=0.6),
    "top_k": dict(top_k=4),
    "top_p": dict(top_p=0.8),
    "min_p": dict(min_p=0.1),
    "all": dict(temperature=0.8, top_k=6, top_p=0.9, min_p=0.05),
}


@pytest.mark.parametrize("fields", FILTERS.values(), ids=FILTERS)
def test_sampler_and_trainer_give_the_same_logprobs(tiny_network, one_device, fields):
    network = tiny_network()
    params = peaked_params(network, one_device)
    config = config_of(**fields)
    prompts, mask = left_padded()
    rollouts = sample(network, params, config, prompts, mask, [0, 1, 2, 3])
    rows = trainer_rows(rollouts, prompts, mask)
    trained, entropy = jax.jit(
        lambda params, rows: completion_statistics(network, params, rows, config.token_filter)
    )(params, rows)[:2]
    gap = np.where(rows["mask"], trained - rollouts.logprobs.reshape(trained.shape), 0)
    assert np.abs(gap).max() < 1e-5
    assert np.abs(np.exp(gap) - 1).max() < 1e-5  # the on-policy ratio
    assert rows["mask"].sum() > 40 and np.isfinite(entropy).all()


def test_scoring_in_parts_equals_scoring_at_once(tiny_network, one_device):
    network, config = tiny_network(), config_of(top_k=4)
    params = peaked_params(network, one_device)
    prompts, mask = left_padded()
    rollouts = sample(network, params, config, prompts, mask, [0, 1, 2, 3])
    rows = model_rows(trainer_rows(rollouts, prompts, mask))
    expected = rollouts.logprobs.reshape(12, -1)
    for parts in (1, 3, 12):
        score = jax.jit(make_score(network, config.token_filter, micro_batches=parts))
        found = np.where(rows["mask"], score(params, rows), 0)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_sampler_and_trainer_agree_across_meshes(tiny_network, one_device, mesh_2x2x2):
    network, config = tiny_network(), config_of(top_p=0.9, samples_per_prompt=2)
    params = peaked_params(network, one_device)
    prompts, mask = left_padded()
    one = sample(network, params, config, prompts, mask, [0, 1, 2, 3])
    with jax.set_mesh(mesh_2x2x2):
        sharded = jax.device_put(params, network.shardings(mesh_2x2x2))
        placed = put_rows((prompts, mask, jnp.arange(4, dtype=jnp.int32)), mesh_2x2x2)
        many = jax.device_get(
            jax.jit(make_sampler(network, config))(sharded, *placed, KEY, jnp.int32(4))
        )
        rows = trainer_rows(many, prompts, mask)
        statistics = jax.jit(
            lambda params, rows: completion_statistics(network, params, rows, config.token_filter)
        )
        trained = statistics(sharded, put_rows(rows, mesh_2x2x2))[0]
    np.testing.assert_array_equal(one.tokens, many.tokens)
    np.testing.assert_array_equal(one.mask, many.mask)
    np.testing.assert_allclose(one.logprobs, many.logprobs, rtol=0, atol=1e-5)
    np.testing.assert_allclose(
        np.where(rows["mask"], trained, 0), many.logprobs.reshape(8, -1), rtol=0, atol=1e-5
    )


# --- batch invariance ----------------------------------------------------------------------------


def test_a_sample_depends_on_its_address_only(tiny_network, one_device):
    network, config = tiny_network(), config_of()
    params = peaked_params(network, one_device)
    ids = np.array([40, 10, 30, 20])
    prompts, mask = left_padded()
    base = sample(network, params, config, prompts, mask, ids)

    def check(rollouts, rows, samples=slice(None)):
        picked = jax.tree.map(lambda x: x[:, samples], rollouts)
        expected = jax.tree.map(lambda x: x[rows], base)
        np.testing.assert_array_equal(picked.tokens, expected.tokens)
        np.testing.assert_array_equal(picked.mask, expected.mask)
        np.testing.assert_array_equal(picked.finished, expected.finished)
        np.testing.assert_allclose(picked.logprobs, expected.logprobs, rtol=0, atol=1e-5)

    for row in (0, 2):  # alone
        alone = [x[row : row + 1] for x in (prompts, mask)]
        check(sample(network, params, config, *alone, ids[[row]]), [row])
    order = np.array([2, 0, 3, 1])
    check(sample(network, params, config, prompts[order], mask[order], ids[order]), order)
    check(sample(network, params, config, *left_padded(extra=5), ids), [0, 1, 2, 3])
    wide = config_of(samples_per_prompt=5)
    check(sample(network, params, wide, prompts, mask, ids), [0, 1, 2, 3], slice(3))
    long = sample(network, params, config_of(max_new_tokens=9), prompts, mask, ids)
    np.testing.assert_array_equal(long.tokens[..., :7], base.tokens)


def test_steps_streams_prompts_and_samples_have_different_noise(tiny_network, one_device):
    network, config = tiny_network(), config_of(max_new_tokens=20, stop_tokens=(99,))
    params = network.init(jax.random.key(0), one_device)
    prompts, mask = (jnp.tile(x[:1], (3, 1)) for x in left_padded((4,)))
    draw = lambda key, step: sample(  # noqa: E731
        network, params, config, prompts, mask, [0, 1, 2], key, step
    ).tokens.reshape(9, -1)
    streams = [
        draw(KEY, 0),
        draw(KEY, 1),
        draw(purpose_key(1, Purpose.ROLLOUTS), 0),
        draw(purpose_key(0, Purpose.HELDOUT_SAMPLES), 0),
    ]
    tokens = np.concatenate(streams)
    assert len(np.unique(tokens, axis=0)) == len(tokens)  # 36 samples of one prompt
    np.testing.assert_array_equal(streams[0], draw(KEY, 0))  # and each one is reproducible


# --- the distribution itself ---------------------------------------------------------------------

CHI_SQUARE = {
    "plain": dict(),
    "cold": dict(temperature=0.5),
    "top_k": dict(top_k=2),
    "top_p": dict(top_p=0.7),
    "min_p": dict(min_p=0.4),
}


@pytest.mark.parametrize("fields", CHI_SQUARE.values(), ids=CHI_SQUARE)
def test_sample_frequencies_match_exact_enumeration(tiny_network, one_device, fields):
    """Chi-square over all completions of at most 2 tokens of a 4-token vocabulary, 3 stopping."""
    network = tiny_network(vocab_size=4, width=8, heads=2, kv_heads=1, mlp_width=8)
    params = network.init(jax.random.key(2), one_device)
    config = config_of(
        samples_per_prompt=20_000, max_new_tokens=2, stop_tokens=(3,), pad_token=3, **fields
    )
    prompts, mask = left_padded((3,), vocab_size=4)
    rollouts = sample(network, params, config, prompts, mask, [0])

    forward = jit_forward(network)

    def next_probabilities(tokens):
        """Raw softmax of the model, then the filter by definition, in float64."""
        row = [*prompts[0].tolist(), *tokens]
        logits = np.float64(forward(params, (row + [0])[:4])[len(row) - 1])
        p = np.exp(logits / fields.get("temperature", 1.0))
        p /= p.sum()
        order = np.argsort(-p)
        kept = set(order[: fields.get("top_k") or 4])
        reach = np.searchsorted(np.cumsum(p[order]), fields.get("top_p", 1.0) - 1e-9) + 1
        kept &= set(order[:reach])
        kept &= set(np.flatnonzero(p >= fields.get("min_p", 0) * p.max()))
        p[[token for token in range(4) if token not in kept]] = 0
        return p / p.sum()

    first = next_probabilities([])
    exact = {(3, 3): first[3]}  # a stop, then padding, which is 3 as well
    for token in range(3):
        if first[token] == 0:
            continue
        for second, p in enumerate(next_probabilities([token])):
            exact[token, second] = first[token] * p
    sequences = [tuple(row) for row in rollouts.tokens[0]]
    counts = np.array([sequences.count(sequence) for sequence in exact])
    assert counts.sum() == 20_000  # nothing outside the support
    expected = 20_000 * np.array(list(exact.values()))
    possible = expected > 0
    assert (counts[~possible] == 0).all() and possible.sum() > 1
    assert stats.chisquare(counts[possible], expected[possible]).pvalue > 1e-3


def test_padding_rows_of_the_vocabulary_are_never_sampled(tiny_network, one_device):
    network = tiny_network(vocab_size=9)  # 16 rows in the embedding
    params = network.init(jax.random.key(0), one_device)
    huge = params["embedding"].at[9:].set(100.0)
    params = {**params, "embedding": huge}
    prompts, mask = left_padded(vocab_size=9)
    for fields in (dict(temperature=5.0), dict(temperature=0.0)):
        config = config_of(samples_per_prompt=50, stop_tokens=(8,), **fields)
        rollouts = sample(network, params, config, prompts, mask, [0, 1, 2, 3])
        assert rollouts.tokens.max() < 9 and np.isfinite(rollouts.logprobs).all()


# --- stops ---------------------------------------------------------------------------------------


def test_mask_ends_with_the_stop_token_also_when_padding_is_the_same_id(tiny_network, one_device):
    network = tiny_network(vocab_size=6)
    params = network.init(jax.random.key(0), one_device)
    prompts, mask = left_padded(vocab_size=6)

    def draw(pad):
        config = config_of(samples_per_prompt=30, stop_tokens=(2, 5), pad_token=pad)
        out = sample(network, params, config, prompts, mask, [0, 1, 2, 3])
        return Rollouts(*(x.reshape(120, *x.shape[2:]) for x in out))

    plain, same_id = draw(0), draw(2)
    for pad, rollouts in ((0, plain), (2, same_id)):
        lengths = set()
        for tokens, kept, logprobs, finished in zip(*rollouts, strict=True):
            stops = np.flatnonzero(np.isin(tokens[kept], (2, 5)))
            length = stops[0] + 1 if len(stops) else 7
            assert finished == bool(len(stops))
            np.testing.assert_array_equal(kept, np.arange(7) < length)
            assert (tokens[length:] == pad).all() and (logprobs[length:] == 0).all()
            assert (logprobs[:length] < 0).all()
            lengths.add(length)
        assert lengths == set(range(1, 8))
    np.testing.assert_array_equal(plain.mask, same_id.mask)
    np.testing.assert_array_equal(plain.tokens[plain.mask], same_id.tokens[plain.mask])


def test_decoding_ends_when_every_row_has_stopped(tiny_network, one_device, monkeypatch):
    network = tiny_network(vocab_size=6)
    params = network.init(jax.random.key(0), one_device)
    prompts, mask = left_padded(vocab_size=6)
    decode, calls = Transformer.decode, []

    def counted(self, *arguments):
        jax.debug.callback(lambda: calls.append(1))
        return decode(self, *arguments)

    monkeypatch.setattr(Transformer, "decode", counted)
    for stop_tokens, budget in [(tuple(range(6)), 50), ((0, 1, 2, 3), 50)]:
        calls.clear()
        config = config_of(max_new_tokens=budget, stop_tokens=stop_tokens, pad_token=5)
        run = jax.jit(make_sampler(network, config))
        out = run(params, prompts, mask, jnp.arange(4), KEY, jnp.int32(0))
        longest = int(out.mask.sum(axis=-1).max())
        jax.effects_barrier()
        # The last token need not be decoded, so one call fewer would be as good.
        assert longest < 50 and longest - 1 <= len(calls) <= longest


# --- greedy --------------------------------------------------------------------------------------


def test_greedy_is_the_chain_of_argmaxes(tiny_network, one_device):
    network = tiny_network()
    params = peaked_params(network, one_device)
    config = config_of(temperature=0.0)
    prompts, mask = left_padded()
    rollouts = sample(network, params, config, prompts, mask, [0, 1, 2, 3])

    forward = jit_forward(network)
    for row, length in enumerate(LENGTHS):
        sequence = [int(token) for token in prompts[row, -length:]]
        expected = []
        while len(expected) < 7 and expected[-1:] != [2]:
            padded = (sequence + expected + [0] * 13)[:13]  # causal: what follows does not matter
            logits = forward(params, padded)
            expected.append(int(logits[len(sequence) + len(expected) - 1].argmax()))
        for sample_index in range(3):
            kept = rollouts.mask[row, sample_index]
            assert rollouts.tokens[row, sample_index][kept].tolist() == expected
    assert (rollouts.logprobs == 0).all()


def test_very_cold_sampling_equals_greedy(tiny_network, one_device):
    network = tiny_network()
    params = peaked_params(network, one_device)
    prompts, mask = left_padded()
    cold, greedy, single = (
        sample(network, params, config_of(**fields), prompts, mask, [0, 1, 2, 3])
        for fields in (dict(temperature=1e-4), dict(temperature=0.0), dict(top_k=1))
    )
    np.testing.assert_array_equal(cold.tokens, greedy.tokens)
    np.testing.assert_array_equal(single.tokens, greedy.tokens)
    np.testing.assert_array_equal(single.logprobs, 0)  # a single candidate is certain


# --- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields, message",
    [
        (dict(max_new_tokens=0), "max_new_tokens .*>= 1"),
        (dict(samples_per_prompt=0), "samples_per_prompt .*>= 1"),
        (dict(stop_tokens=()), "stop token"),
    ],
)
def test_impossible_sampling_is_refused(tiny_network, fields, message):
    with pytest.raises(ValueError, match=message):
        make_sampler(tiny_network(), config_of(**fields))


def test_sampler_compiles_once_for_all_steps(tiny_network, one_device):
    network, config = tiny_network(), config_of(max_new_tokens=2)
    params = network.init(jax.random.key(0), one_device)
    run = jax.jit(make_sampler(network, config))
    prompts, mask = left_padded()
    for step, seed in itertools.product(range(3), range(2)):
        key = purpose_key(seed, Purpose.ROLLOUTS)
        run(params, prompts, mask, jnp.arange(4) + step, key, jnp.int32(step))
    assert run._cache_size() == 1
