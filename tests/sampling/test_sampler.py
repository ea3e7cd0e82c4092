"""The sampler's contracts: the trainer's log-probabilities, batch invariance, stops, exactness."""

import collections
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from rljax.models.decoding import decode
from rljax.parallel.mesh import make_mesh
from rljax.parallel.rules import put_rows
from rljax.sampling import step as step_module
from rljax.sampling.choose import Penalties
from rljax.sampling.distribution import EntropyTemperature
from rljax.sampling.keys import Purpose, purpose_key
from rljax.sampling.request import StopReason
from rljax.sampling.sampler import make_sampler
from rljax.training.update.logprobs import completion_statistics, make_score, model_rows
from rljax.training.update.rows import rollout_rows
from tests.sampling import reference
from tests.sampling.tiny import (
    KEY,
    config_of,
    network_of,
    params_of,
    requests_of,
    sample,
    take,
)


def trainer_rows(rollouts, requests, share_prompts=False):
    rows = rollout_rows(
        requests.prompts,
        requests.prompt_mask,
        rollouts.tokens,
        rollouts.mask,
        share_prompts=share_prompts,
    )
    return rows | {"temperature": rollouts.temperature.reshape(rows["mask"].shape)}


def without_temperature(rows):
    return {name: array for name, array in rows.items() if name != "temperature"}


# --- sampler = trainer ---------------------------------------------------------------------------

FILTERS = {
    "plain": dict(),
    "all": dict(temperature=0.8, top_k=6, top_p=0.9, min_p=0.05, top_logprobs=2),
    "bias": dict(logit_bias=((3, 1.0), (5, -2.0)), forbidden_tokens=(4,), temperature=1.3),
    "entropy": dict(entropy_temperature=EntropyTemperature(theta=0.5, lowest=0.3)),
}


@pytest.mark.contract
@pytest.mark.parametrize(
    "fields",
    [
        pytest.param(fields, id=name, marks=[pytest.mark.slow] * (name == "bias"))
        for name, fields in FILTERS.items()
    ],
)
def test_sampler_and_trainer_give_the_same_statistics(fields):
    network, config, requests = network_of(), config_of(**fields), requests_of()
    params = params_of(network)
    rollouts = sample(network, params, config, requests)
    rows = without_temperature(trainer_rows(rollouts, requests))
    trained = jax.jit(
        lambda params, rows: completion_statistics(network, params, rows, config.token_filter)
    )(params, rows)
    shape = rows["mask"].shape
    gap = np.where(rows["mask"], trained.logprobs - rollouts.logprobs.reshape(shape), 0)
    assert np.abs(gap).max() < 1e-5
    assert np.abs(np.exp(gap) - 1).max() < 1e-5  # the on-policy ratio
    entropy = np.where(rows["mask"], trained.entropy, 0)
    np.testing.assert_allclose(rollouts.entropy.reshape(shape), entropy, rtol=0, atol=1e-5)
    assert rows["mask"].sum() > 40


@pytest.mark.contract
def test_scores_in_parts_and_of_shared_prompts_equal_the_samplers():
    network, config, requests = network_of(), config_of(), requests_of()
    params = params_of(network)
    rollouts = sample(network, params, config, requests)
    for share_prompts, parts in ((False, 3), (True, 1), (True, 2)):
        rows = model_rows(trainer_rows(rollouts, requests, share_prompts))
        score = jax.jit(make_score(network, config.token_filter, micro_batches=parts))
        found = np.where(rows["mask"], score(params, rows), 0)
        expected = rollouts.logprobs.reshape(found.shape)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_the_trainer_scores_continued_rows_of_a_queue_at_their_own_temperatures():
    network = network_of()
    params, rng = params_of(network), np.random.default_rng(0)
    config = config_of(top_p=0.9, slots=5, refill_every=2)
    requests = requests_of(
        continued=np.int32([0, 3, 1, 3]),
        temperature=np.float32(rng.uniform(0.5, 1.5, (4, 3))),
        max_new_tokens=np.int32(rng.integers(4, 10, (4, 3))),
    )
    rollouts = sample(network, params, config, requests)
    rows = model_rows(trainer_rows(rollouts, requests))
    score = jax.jit(make_score(network, config.token_filter, micro_batches=1))
    found = np.where(rows["mask"], score(params, rows), 0)
    np.testing.assert_allclose(found, rollouts.logprobs.reshape(12, -1), rtol=0, atol=1e-5)
    own = np.where(rollouts.mask, requests.temperature[..., None], 0)
    np.testing.assert_array_equal(rollouts.temperature, own)


def test_the_likeliest_tokens_are_those_of_the_raw_model():
    network, requests = network_of(), requests_of()
    params, config = params_of(network), config_of(**FILTERS["all"])
    rollouts = sample(network, params, config, requests)
    logits = reference.next_logits(network, params)
    for b, g in itertools.product(range(4), range(3)):
        tokens = requests.prompts[b][requests.prompt_mask[b]].tolist()
        for t in np.flatnonzero(rollouts.mask[b, g]):
            raw = reference.log_softmax(logits(tokens))
            order = np.argsort(-raw)[:2]
            np.testing.assert_array_equal(rollouts.top_tokens[b, g, t], order)
            np.testing.assert_allclose(rollouts.top_logprobs[b, g, t], raw[order], atol=1e-5)
            tokens.append(int(rollouts.tokens[b, g, t]))
        assert (rollouts.top_logprobs[b, g][~rollouts.mask[b, g]] == 0).all()


# --- batch invariance ----------------------------------------------------------------------------


def check_same(found, expected):
    """Two rollouts of the same shape."""
    for name in ("tokens", "mask", "stop_reason"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
    for name in reference.STATISTICS:
        np.testing.assert_allclose(
            getattr(found, name), getattr(expected, name), rtol=0, atol=1e-5, err_msg=name
        )


@pytest.mark.contract
def test_a_sample_depends_on_its_address_only():
    network, config = network_of(), config_of()
    params, ids = params_of(network), [40, 10, 30, 20]
    requests = requests_of(ids=ids)
    base = sample(network, params, config, requests)

    def check(found, rows, samples=(0, 1, 2)):
        picked = found._replace(slot_steps=None)
        check_same(picked, jax.tree.map(lambda x: x[np.ix_(rows, samples)], picked_base))

    picked_base = base._replace(slot_steps=None)
    order = [2, 0, 3, 1]
    check(sample(network, params, config, take(requests, order)), order)
    alone = take(requests, [1])._replace(sample_ids=np.int32([[2, 0, 1]]))
    check(sample(network, params, config, alone), [1], [2, 0, 1])
    few = config_of(slots=5, refill_every=2)
    check(sample(network, params, few, requests_of(ids=ids, slots=11)), range(4))
    wide = config_of(samples_per_prompt=5, max_new_tokens=9, slots=4, refill_every=3)
    found = sample(network, params, wide, requests)
    np.testing.assert_array_equal(found.tokens[:, :3, :7], base.tokens)
    np.testing.assert_allclose(found.logprobs[:, :3, :7], base.logprobs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("axes", [dict(data=2, fsdp=2, tensor=2), dict(data=8)])
def test_the_mesh_changes_nothing(axes):
    network, requests = network_of(), requests_of(ids=[40, 10, 30, 20])
    params, mesh = params_of(network), make_mesh(axes)
    expected = sample(network, params, config_of(), requests)
    rows = [0, 1, 2, 3, 3, 2, 1, 0]
    config = config_of(slots=16, refill_every=2)
    with jax.set_mesh(mesh):
        placed = (
            jax.device_put(params, network.shardings(mesh)),
            put_rows(take(requests, rows), mesh),
        )
        found = jax.device_get(jax.jit(make_sampler(network, config))(*placed, KEY, jnp.int32(4)))
    check_same(found, take(expected, rows))


def test_steps_streams_prompts_and_samples_have_different_noise():
    network, config = network_of(), config_of(max_new_tokens=16, forbidden_tokens=(2,))
    params = network.init(jax.random.key(0), make_mesh({"data": 1}, jax.devices()[:1]))
    requests = take(requests_of((4,)), [0, 0, 0])._replace(prompt_ids=np.int32([0, 1, 2]))

    def draw(key, step):
        return sample(network, params, config, requests, key=key, step=step).tokens.reshape(9, -1)

    streams = [
        draw(KEY, 0),
        draw(KEY, 1),
        draw(purpose_key(1, Purpose.ROLLOUTS), 0),
        draw(purpose_key(0, Purpose.HELDOUT_SAMPLES), 0),
    ]
    tokens = np.concatenate(streams)
    assert len(np.unique(tokens, axis=0)) == len(tokens)  # 36 samples of one prompt
    np.testing.assert_array_equal(streams[0], draw(KEY, 0))  # and each one is reproducible


def test_compiled_once_for_all_steps_keys_and_prompts(compilations):
    network, config = network_of(), config_of(pad_token=5)  # of this test alone
    params = params_of(network)
    with compilations() as programs:
        sample(network, params, config, requests_of())
        for seed in range(3):
            requests = requests_of((6, 1, 1, 2 + seed), ids=[seed, 5, 6, 7])
            key = purpose_key(seed, Purpose.ROLLOUTS)
            sample(network, params, config, requests, key=key, step=seed)
    assert programs.count("jit(sample)") == 1


# --- the distribution itself ---------------------------------------------------------------------

SAMPLES = 20_000
FAST = {"plain": dict(temperature=0.7)}
SLOW = {
    "penalties": dict(penalties=Penalties(repetition=1.5, presence=0.5, frequency=0.7)),
    "entropy": dict(entropy_temperature=EntropyTemperature(theta=0.8, lowest=0.2)),
    "top_p": dict(top_p=0.7),
    "top_k": dict(top_k=2),
    "min_p": dict(min_p=0.05),
    "together": dict(top_k=3, top_p=0.9, min_p=0.1, temperature=1.5),
    "bias": dict(logit_bias=((1, 1.0),), forbidden_tokens=(0,)),
}


def tiny_vocabulary():
    """A network of a 4-token vocabulary, token 3 stopping, and a prompt."""
    network = network_of(vocab_size=4, width=8, heads=2, kv_heads=1, mlp_width=8)
    return network, params_of(network, seed=2), requests_of((3,), vocab_size=4)


def exact_probabilities(network, params, prompt, config, temperature=None):
    """{completion of at most 2 tokens: probability}, by the definitions in float64."""
    logits = reference.next_logits(network, params)

    def following(tokens):
        raw = logits([*prompt, *tokens])
        changed = reference.penalised(raw, prompt, tokens, config)
        used = reference._temperature(raw, config.token_filter, temperature)
        changed = reference.biased(changed, config.token_filter) / used
        return np.exp(reference.log_softmax(reference.truncated(changed, config.token_filter)))

    first = following([])
    exact = {(3, 3): first[3]}  # a stop, then padding, which is 3 as well
    for token in range(3):
        for second, p in enumerate(following([token])):
            exact[token, second] = first[token] * p
    return exact


def check_frequencies(tokens, exact):
    """Chi-square of rows [N, 2]."""
    counted = collections.Counter(map(tuple, tokens.tolist()))
    observed = np.array([counted[completion] for completion in exact])
    expected = len(tokens) * np.array(list(exact.values()))
    assert observed.sum() == len(tokens)  # nothing outside the support
    possible = expected > 0
    assert (observed[~possible] == 0).all() and possible.sum() > 2
    squares = (observed - expected)[possible] ** 2 / expected[possible]
    assert stats.chi2.sf(squares.sum(), possible.sum() - 1) > 1e-3


def chi_square_config(**fields):
    return config_of(
        samples_per_prompt=SAMPLES, max_new_tokens=2, stop_tokens=(3,), pad_token=3, **fields
    )


@pytest.mark.parametrize(
    "fields",
    [
        *(pytest.param(fields, id=name) for name, fields in FAST.items()),
        *(pytest.param(fields, id=name, marks=pytest.mark.slow) for name, fields in SLOW.items()),
    ],
)
def test_sample_frequencies_match_exact_enumeration(fields):
    """All completions of at most 2 tokens of a 4-token vocabulary."""
    network, params, requests = tiny_vocabulary()
    config = chi_square_config(**fields)
    rollouts = sample(network, params, config, requests)
    exact = exact_probabilities(network, params, requests.prompts[0].tolist(), config)
    check_frequencies(rollouts.tokens[0], exact)


def test_frequencies_of_rows_with_their_own_temperatures():
    network, params, requests = tiny_vocabulary()
    own = np.where(np.arange(SAMPLES) % 2, 0.5, 2.0).astype(np.float32)[None]
    config = chi_square_config(temperature=0.0)  # which the rows' own replaces
    tokens = sample(network, params, config, requests._replace(temperature=own)).tokens[0]
    for first, temperature in ((0, 2.0), (1, 0.5)):
        prompt = requests.prompts[0].tolist()
        exact = exact_probabilities(network, params, prompt, config, temperature)
        check_frequencies(tokens[first::2], exact)


def test_padding_rows_of_the_vocabulary_are_never_sampled():
    network = network_of(vocab_size=9)  # 16 rows in the output matrix
    params = params_of(network)
    params = {**params, "output": params["output"].at[9:].set(100.0)}
    config = config_of(samples_per_prompt=50, stop_tokens=(8,))
    temperature = np.broadcast_to(np.float32([5.0, 0.0] * 25), (4, 50))
    requests = requests_of(vocab_size=9, temperature=temperature)
    rollouts = sample(network, params, config, requests)
    assert set(rollouts.tokens[:, ::2].ravel().tolist()) == set(range(9))
    assert rollouts.tokens.max() < 9 and np.isfinite(rollouts.model_logprobs).all()


# --- stops ---------------------------------------------------------------------------------------


def test_mask_ends_with_the_stop_token_also_when_padding_is_the_same_id():
    network = network_of(vocab_size=6)
    params, requests = params_of(network), requests_of(vocab_size=6)
    config = config_of(samples_per_prompt=30, stop_tokens=(2, 5), pad_token=2, temperature=4.0)
    rollouts = sample(network, params, config, requests)
    lengths = set()
    for b, g in np.ndindex(4, 30):
        tokens, kept = rollouts.tokens[b, g], rollouts.mask[b, g]
        stops = np.flatnonzero(np.isin(tokens[kept], (2, 5)))
        length = stops[0] + 1 if len(stops) else 7
        reason = StopReason.STOP_TOKEN if len(stops) else StopReason.LENGTH
        assert rollouts.stop_reason[b, g] == reason
        assert rollouts.finished[b, g] == bool(len(stops))
        np.testing.assert_array_equal(kept, np.arange(7) < length)
        assert (tokens[length:] == 2).all()
        assert (rollouts.logprobs[b, g, :length] < 0).all()
        lengths.add(int(length))
    assert lengths == set(range(1, 8)) and (rollouts.stop_reason == StopReason.LENGTH).any()


@pytest.fixture
def decoded(monkeypatch):
    """The number of rows of each decode step, in order."""
    rows = []

    def counted(decoder, tokens, *rest):
        jax.debug.callback(lambda: rows.append(len(tokens)))
        return decode(decoder, tokens, *rest)

    monkeypatch.setattr(step_module, "decode", counted)
    return rows


def run_counted(config, requests):
    """A program of its own, traced with the counting decode step."""
    network = network_of(vocab_size=6)
    run = jax.jit(make_sampler(network, config))
    rollouts = jax.device_get(run(params_of(network), requests, KEY, jnp.int32(0)))
    jax.effects_barrier()
    return rollouts, rollouts.mask.sum(axis=-1).ravel()


def test_decoding_ends_when_every_row_has_stopped_or_has_one_token_to_go(decoded):
    network = network_of(vocab_size=6)
    config = config_of(max_new_tokens=50, logit_bias=((2, -3.0),), temperature=3.0)
    run = jax.jit(make_sampler(network, config))
    continued = np.int32([0, 2, 2, 2])
    for limit in (50, 3, 1):
        most = np.tile(limit + continued[:, None], (1, 3))
        requests = requests_of(vocab_size=6, max_new_tokens=most, continued=continued)
        rollouts = jax.device_get(run(params_of(network), requests, KEY, jnp.int32(0)))
        jax.effects_barrier()
        longest = rollouts.mask.sum(axis=-1).max()
        assert longest == limit if limit < 50 else 3 < longest < 50
        # What ends at its limit is not decoded; what a stop token ends is known too late.
        assert decoded == [12] * (longest if limit == 50 else limit - 1)
        assert (rollouts.slot_steps == 12 * longest).all()
        decoded.clear()


def steps_of_queue(lengths, slots, refill_every):
    """Decode steps of rows that all end with a stop token."""
    queue, left, steps = list(lengths), [], 0
    while queue or left:
        while queue and len(left) < slots:
            left.append(queue.pop(0))
        for _ in range(refill_every):
            if left:
                steps, left = steps + 1, [n - 1 for n in left]
                left = [n for n in left if n > 0]
            if not left:
                break
    return steps


def test_a_queue_takes_as_many_steps_as_its_rows_need(decoded):
    requests = requests_of(vocab_size=6)
    rarely = dict(samples_per_prompt=8, max_new_tokens=50, logit_bias=((2, -3.0),), temperature=3.0)
    rollouts, lengths = run_counted(config_of(**rarely, slots=4, refill_every=2), requests)
    assert lengths.max() < 50 and lengths.max() > 2 * np.median(lengths)
    assert len(decoded) == steps_of_queue(lengths, 4, 2)
    # In lock-step every four rows would take as long as their longest.
    assert len(decoded) < 0.75 * lengths.reshape(-1, 4).max(axis=1).sum()
    assert len(decoded) < 1.25 * lengths.sum() / 4 + lengths.max()


def test_the_rows_that_are_left_are_moved_together(decoded):
    requests = requests_of(vocab_size=6)
    config = config_of(
        samples_per_prompt=8,
        max_new_tokens=50,
        logit_bias=((2, -3.0),),
        temperature=3.0,
        shrink=(2, 4),
    )
    rollouts, lengths = run_counted(config, requests)
    network = network_of(vocab_size=6)
    logits = reference.next_logits(network, params_of(network))
    rows = reference.sample_all(logits, config, requests, KEY, 0)
    assert reference.compare(rollouts, rows, config) == 0
    running = [(lengths > step).sum() for step in range(lengths.max())]
    assert decoded == [next(w for w in (8, 16, 32) if n <= w) for n in running]
    assert set(decoded) == {8, 16, 32} and (rollouts.slot_steps == sum(decoded)).all()


def test_a_temperature_that_follows_the_entropy_equals_the_reference():
    """Slopes of their own for each prompt, in slots that are filled again; zeros change nothing."""
    network = network_of()
    config = config_of(temperature=0.9, top_p=0.9, slots=5, refill_every=2)
    slopes = np.float32([[0.5, 0.8, 0.4, 0.9], [-1, 0.3, 0.3, 0.2], [0.2, 0.0, 2.0, 0.7], [0] * 4])
    requests = requests_of(temperature_slopes=slopes)
    rollouts = sample(network, params_of(network), config, requests, step=0)
    logits = reference.next_logits(network, params_of(network))
    rows = reference.sample_all(logits, config, requests, KEY, 0)
    assert reference.compare(rollouts, rows, config) == 0
    used = [rollouts.temperature[b][rollouts.mask[b]] for b in range(4)]
    assert np.ptp(used[0]) > 0.1 and np.ptp(used[2]) > 0.05
    np.testing.assert_allclose(used[3], 0.9, rtol=1e-6)
    plain = sample(network, params_of(network), config, requests_of(), step=0)
    np.testing.assert_array_equal(plain.tokens[3], rollouts.tokens[3])
    np.testing.assert_allclose(plain.logprobs[3], rollouts.logprobs[3], rtol=1e-6)


def test_before_its_wanted_length_a_row_stops_only_if_it_must():
    """A constraint that leaves nothing but the stop token ends a row, however short it is."""
    network, requests = network_of(), requests_of()
    table = np.full((2, 13), -1)
    table[0, [5, 6]] = 1  # one of two tokens, then the stop token
    table[1, 2] = 1
    constraint = reference.TokenAutomaton.create(table, np.zeros(2, bool))
    least = np.full((4, 3), 4, np.int32)
    rollouts = sample(
        network,
        params_of(network),
        config_of(),
        requests._replace(min_new_tokens=least),
        constraint=constraint,
    )
    assert (rollouts.mask.sum(axis=-1) == 2).all() and (rollouts.tokens[..., 1] == 2).all()
    assert (rollouts.stop_reason == StopReason.STOP_TOKEN).all()


# --- greedy --------------------------------------------------------------------------------------


def test_greedy_is_the_chain_of_argmaxes():
    network, config, requests = network_of(), config_of(temperature=0.0), requests_of()
    params = params_of(network)
    rollouts = sample(network, params, config, requests)
    logits = reference.next_logits(network, params)
    for b, g in np.ndindex(4, 3):
        tokens, chain = requests.prompts[b][requests.prompt_mask[b]].tolist(), []
        while len(chain) < 7 and chain[-1:] != [2]:
            chain.append(int(logits([*tokens, *chain]).argmax()))
        assert rollouts.tokens[b, g][rollouts.mask[b, g]].tolist() == chain
    assert (rollouts.logprobs == 0).all() and (rollouts.entropy == 0).all()
    assert (rollouts.model_logprobs[rollouts.mask] < 0).all()


def test_greedy_rows_very_cold_rows_and_a_greedy_filter_agree():
    network, requests = network_of(), requests_of()
    params = params_of(network)
    greedy = sample(network, params, config_of(temperature=0.0), requests)
    own = np.broadcast_to(np.float32([0.0, 1e-4, 1.0]), (4, 3))
    mixed = sample(network, params, config_of(), requests._replace(temperature=own))
    np.testing.assert_array_equal(mixed.tokens[:, :2], greedy.tokens[:, :2])
    assert (mixed.logprobs[:, 0] == 0).all() and np.abs(mixed.logprobs[:, 1]).max() < 1e-3
    warm = sample(network, params, config_of(), requests)
    np.testing.assert_array_equal(mixed.tokens[:, 2], warm.tokens[:, 2])
