"""Masked-diffusion decoding against a plain loop, exact enumeration and replayed canvases."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.models.transformer import Encoded
from rljax.parallel.rules import put_rows
from rljax.sampling.diffusion import (
    DiffusionConfig,
    Rows,
    decode_blocks,
    make_diffusion_sampler,
    network_denoiser,
    num_transfer,
)
from rljax.sampling.keys import Purpose, purpose_key
from rljax.sampling.request import Requests, StopReason
from tests.sampling.tiny_diffusion import (
    IDS,
    KEY,
    LENGTHS,
    MASK,
    PAD,
    STEP,
    STOPS,
    config_of,
    requests_of,
)


@pytest.fixture(scope="module")
def network(tiny_network):
    return tiny_network(causal=False, layers=1)


@pytest.fixture(scope="module")
def params(network, one_device):
    """Parameters whose distributions are far from uniform."""
    params = network.init(jax.random.key(1), one_device)
    return {**params, "embedding": params["embedding"] * 3}


@functools.cache
def jit_sampler(network, config: DiffusionConfig):
    return jax.jit(make_diffusion_sampler(network, config))


def sample(network, params, config, requests, step=STEP):
    run = jit_sampler(network, config)
    return jax.device_get(run(params, requests, KEY, jnp.int32(step)))


@functools.cache
def jit_forward(network):
    """forward(params, [S] tokens, [] start) -> [S, V] logits; slots before `start` are padding."""

    def forward(params, tokens, start):
        slots = jnp.arange(len(tokens))
        model = network.bind(params)
        places, segments = jnp.maximum(slots - start, 0), (slots >= start).astype(jnp.int32)
        return model.logits(model(tokens[None], places[None], segments[None]).hidden)[0]

    return jax.jit(forward)


@jax.jit
def noise_of(key, step, places):
    """The address of the noise: row, step over all blocks, position. Gumbel [T, V], uniform [T]."""

    def at(place):
        step_key = jax.random.fold_in(key, step)
        token, order = (jax.random.fold_in(step_key, 2 * place + i) for i in range(2))
        return jax.random.gumbel(token, (MASK + 1,), mode="high"), jax.random.uniform(order)

    return jax.vmap(at)(places)


# --- the schedule --------------------------------------------------------------------------------


def test_schedule_sums_to_the_count_and_is_even():
    counts = jnp.arange(20).reshape(4, 5)
    for steps in (1, 3, 7, 30):
        found = np.asarray(num_transfer(counts, steps))
        assert found.shape == (4, 5, steps) and found.dtype == np.int32
        np.testing.assert_array_equal(found.sum(axis=-1), counts)
        assert (found.max(axis=-1) - found.min(axis=-1) <= 1).all()
        assert (np.diff(found, axis=-1) <= 0).all()
    assert num_transfer(jnp.int32(7), 4).tolist() == [2, 2, 2, 1]
    with pytest.raises(ValueError, match="steps must be >= 1, got 0"):
        num_transfer(counts, 0)


# --- the sampler against a plain loop ------------------------------------------------------------


def log_softmax(logits):
    return logits - np.log(np.exp(logits - logits.max()).sum()) - logits.max()


def predict(forward, prompt, tokens, config):
    """[T] tokens -> [T, V] float64 logits of the completion's positions, unbatched."""
    width = max(LENGTHS) + config.max_new_tokens

    def run(prompt):
        row = prompt + tokens
        start = width - len(row)
        logits = np.float64(forward(np.array([1] * start + row, np.int32), start))
        first = width - len(tokens) - config.shift_logits
        return logits[first : first + len(tokens)]

    logits = run(prompt)
    if config.cfg_scale:
        blind = run([config.mask_token] * len(prompt))
        logits = blind + (config.cfg_scale + 1) * (logits - blind)
    if config.forbid_mask_token:
        logits[:, config.mask_token] = -np.inf
    return logits


def draw_one(logits, noise, config, temperature, may_stop):
    """One token of one position and its statistics."""
    (gumbel, uniform), stops = noise, list(config.stop_tokens)
    legal = logits.copy()
    if not may_stop:
        legal[stops] = -np.inf
    token = int(np.argmax(legal if temperature == 0 else legal / temperature + gumbel))
    without_stops = legal.copy()
    without_stops[stops] = -np.inf
    confidence = np.exp(log_softmax(legal))[token]
    if config.stop_confidence == "excluded":
        confidence = np.exp(log_softmax(without_stops))[token]
    if config.stop_confidence != "model" and token in stops:
        confidence = 0.0
    p = np.exp(log_softmax(without_stops if config.stop_confidence == "excluded" else legal))
    other = {
        "random": uniform,
        "margin": np.sort(p)[-1] - np.sort(p)[-2],
        "entropy": (p[p > 0] * np.log(p[p > 0])).sum(),
        "left_to_right": 0.0,  # ties: the leftmost
    }
    late = config.stop_confidence != "model" and token in stops
    confidence = other.get(config.remasking, confidence) if not late else -1e9
    log_legal = log_softmax(legal)[np.isfinite(legal)]
    fields = {"tokens": token, "model_logprobs": log_softmax(logits)[token]}
    fields["doubt"] = -(np.exp(log_legal) * log_legal).sum()
    fields |= dict(logprobs=0.0, tempered_logprobs=0.0, entropy=0.0)
    if temperature > 0:
        log_p = log_softmax(legal / temperature)
        possible = log_p[np.isfinite(log_p)]
        fields["logprobs"] = log_p[token]
        fields["tempered_logprobs"] = log_softmax(logits / temperature)[token]
        fields["entropy"] = -(np.exp(possible) * possible).sum()
    return confidence, fields


def reference_row(forward, prompt, key, config, temperature, least, limit):
    """All steps of one row alone: dicts of the committed positions up to the first stop token."""
    t, k, per_block = config.max_new_tokens, config.block_tokens, config.steps_per_block
    limit = min(limit, t)
    tokens, found = [config.mask_token] * limit, [None] * limit
    for step in range(config.steps):
        block, step_of_block = divmod(step, per_block)
        places = range(block * k, min(block * k + k, limit))
        if not places:
            continue
        logits = predict(forward, prompt, tokens, config)
        gumbel, uniform = (np.float64(x) for x in noise_of(key, step, np.arange(t)))
        drawn = {
            i: draw_one(logits[i], (gumbel[i], uniform[i]), config, temperature, i >= least)
            for i in places
            if found[i] is None
        }
        schedule = [
            len(places) // per_block + (s < len(places) % per_block) for s in range(per_block)
        ]
        count, order = schedule[step_of_block], sorted(drawn, key=lambda i: (-drawn[i][0], i))
        if config.entropy_bound is not None:
            doubts = [drawn[i][1]["doubt"] for i in order]
            sure = [sum(doubts[:c]) - max(doubts[:c]) for c in range(1, len(order) + 1)]
            count = sum(x <= config.entropy_bound for x in sure)  # they never fall
            count = max(count, len(order) - sum(schedule[step_of_block + 1 :]))
        for i in order[:count]:
            found[i] = drawn[i][1]
            tokens[i] = found[i]["tokens"]
    stops = [i for i in range(limit) if tokens[i] in config.stop_tokens]
    return found[: stops[0] + 1] if stops else found, bool(stops)


LIMITS = dict(
    temperature=jnp.array([[0.0, 1.5], [0.7, 1.0], [1.0, 0.0], [1.0, 3.0]]),
    min_new_tokens=jnp.array([[3, 0], [6, 2], [9, 4], [1, 5]]),
    max_new_tokens=jnp.array([[6, 2], [4, 5], [0, 99], [6, 6]]),
)
VARIANTS = {
    "sampled": (dict(), {}),
    "limits": (dict(pad_token=STOPS[0]), LIMITS),
    "greedy": (
        dict(temperature=0.0, block_tokens=6),
        dict(LIMITS, temperature=None, sample_ids=jnp.array([[5, 1], [0, 3], [8, 9], [2, 2]])),
    ),
    "random, shifted, more steps than tokens": (
        dict(remasking="random", shift_logits=True, steps=10, block_tokens=2, max_new_tokens=4),
        {},
    ),
    "guided, no confident stops": (
        dict(cfg_scale=1.5, temperature=0.5, stop_confidence="excluded", steps=6, block_tokens=6),
        {},
    ),
    "margins, late stops": (dict(remasking="margin", stop_confidence="zero", block_tokens=6), {}),
    "entropies, without stops, within limits": (
        dict(remasking="entropy", stop_confidence="excluded", block_tokens=6, pad_token=STOPS[0]),
        LIMITS,
    ),
    "left to right": (dict(remasking="left_to_right", block_tokens=6), {}),
    "as many as an entropy bound lets through": (
        dict(remasking="entropy", entropy_bound=1.5, block_tokens=6, steps=6),
        LIMITS,
    ),
    "an entropy bound with few steps": (dict(entropy_bound=0.2, block_tokens=6, steps=2), {}),
    "hot, late stops": (dict(temperature=2.0, stop_confidence="zero", block_tokens=6), {}),
}
STATISTICS = ("logprobs", "model_logprobs", "tempered_logprobs", "entropy")


@pytest.mark.parametrize("fields, limits", VARIANTS.values(), ids=VARIANTS)
def test_sampler_equals_a_plain_loop(network, params, fields, limits):
    config, requests = config_of(**fields), requests_of(**limits)
    rollouts = sample(network, params, config, requests)
    forward = functools.partial(jit_forward(network), params)
    t = config.max_new_tokens

    def per_sample(name, default):
        return np.broadcast_to(
            default if limits.get(name) is None else limits[name], (len(LENGTHS), 2)
        )

    temperatures = per_sample("temperature", config.temperature)
    step_key = jax.random.fold_in(KEY, STEP)
    for b, g in itertools.product(range(len(LENGTHS)), range(2)):
        prompt = requests.prompts[b, -LENGTHS[b] :].tolist()
        sample_id = per_sample("sample_ids", [0, 1])[b, g]
        key = jax.random.fold_in(jax.random.fold_in(step_key, IDS[b]), sample_id)
        least, most = per_sample("min_new_tokens", 0)[b, g], per_sample("max_new_tokens", t)[b, g]
        expected, stopped = reference_row(
            forward, prompt, key, config, float(temperatures[b, g]), least, most
        )
        length = len(expected)
        np.testing.assert_array_equal(rollouts.mask[b, g], np.arange(t) < length)
        tokens = [at["tokens"] for at in expected] + [config.pad_token] * (t - length)
        assert rollouts.tokens[b, g].tolist() == tokens
        reason = StopReason.STOP_TOKEN if stopped else StopReason.LENGTH
        assert rollouts.stop_reason[b, g] == reason and rollouts.finished[b, g] == stopped
        used = np.where(rollouts.mask[b, g], temperatures[b, g], 0)
        np.testing.assert_allclose(rollouts.temperature[b, g], used, rtol=1e-6)
        for name in STATISTICS:
            values = [at[name] for at in expected] + [0.0] * (t - length)
            np.testing.assert_allclose(getattr(rollouts, name)[b, g], values, rtol=0, atol=2e-5)
    assert rollouts.top_tokens is None and rollouts.top_logprobs is None


def test_replayed_canvases_give_the_same_logprobs(network, params):
    config, requests = config_of(temperature=0.8, steps=6), requests_of()
    n, p = requests.prompts.shape
    rows = Rows(
        prompts=requests.prompts,
        keys=jax.random.split(KEY, n),
        max_new_tokens=jnp.array([6, 5, 6, 4]),
        min_new_tokens=jnp.array([0, 0, 6, 0]),
        temperature=jnp.full(n, config.temperature),
    )
    inside = np.arange(6) < np.asarray(rows.max_new_tokens)[:, None]
    segments = np.concatenate([requests.prompt_mask, inside], axis=1).astype(np.int32)
    positions = np.maximum(np.cumsum(segments, axis=1, dtype=np.int32) - 1, 0)

    @jax.jit
    def decode(params, rows):
        model = network.bind(params)
        denoise = network_denoiser(model, requests.prompt_mask, rows.max_new_tokens, config)
        return decode_blocks(denoise, rows, config)

    @jax.jit
    def forward(params, canvas):
        model = network.bind(params)
        return model.logits(model(canvas, positions, segments).hidden)

    decoded = jax.device_get(decode(params, rows))
    committed = 0
    for step in range(config.steps):
        known = (decoded.commit_step >= 0) & (decoded.commit_step < step)
        canvas = np.concatenate([rows.prompts, np.where(known, decoded.tokens, MASK)], axis=1)
        logits = np.float64(forward(params, canvas))[:, p:]
        for i, j in zip(*np.nonzero(decoded.commit_step == step), strict=True):
            row = logits[i, j, :MASK]  # the mask is the last id
            for name, values in (("model_logprobs", row), ("tempered_logprobs", row / 0.8)):
                expected = log_softmax(values)[decoded.tokens[i, j]]
                np.testing.assert_allclose(getattr(decoded, name)[i, j], expected, atol=2e-5)
            committed += 1
    assert committed >= 12 and not np.isin(decoded.tokens[2], STOPS).any()


def test_logits_of_any_dtype_are_treated_in_float32():
    table = jnp.asarray(np.random.default_rng(0).normal(size=(5, 4, 13)), jnp.bfloat16)
    config = config_of(max_new_tokens=4, block_tokens=4, steps=2, stop_tokens=())
    rows = Rows(
        prompts=np.zeros((5, 1), np.int32),
        keys=jax.random.split(KEY, 5),
        max_new_tokens=np.full(5, 4),
    )
    decode = jax.jit(lambda table, rows: decode_blocks(lambda *_: table, rows, config))
    coarse, fine = decode(table, rows), decode(table.astype(jnp.float32), rows)
    jax.tree.map(np.testing.assert_array_equal, coarse, fine)
    assert fine.model_logprobs.dtype == jnp.float32 and (fine.model_logprobs < 0).all()


def test_a_finished_block_changes_with_what_is_filled_behind_it(network, params):
    """So keys and values of finished blocks cannot be kept: they belong to another canvas."""
    canvas = jnp.array([[3, 4, 5, 6, MASK, MASK]])
    places, seen = jnp.arange(6)[None], jnp.ones((1, 6), jnp.int32)
    run = jax.jit(lambda canvas: network.bind(params)(canvas, places, seen).hidden)
    before, after = run(canvas), run(canvas.at[0, 4].set(7))
    assert np.abs(np.asarray(before - after)[0, :4]).max() > 1e-3


def test_positions_count_real_tokens_and_segments_hide_the_rest():
    seen = []

    class Recorder:
        def __call__(self, canvas, positions, segment_ids):
            seen.append((positions, segment_ids))
            return Encoded(canvas[..., None], None)

        def logits(self, hidden):
            return hidden

    prompt_mask = np.array([[0, 0, 1], [1, 1, 1]], bool)
    canvas = jnp.arange(14).reshape(2, 7)
    for shift in (False, True):
        config = config_of(max_new_tokens=4, block_tokens=2, shift_logits=shift)
        denoise = network_denoiser(Recorder(), prompt_mask, jnp.array([3, 4]), config)
        block = denoise(canvas, jnp.int32(5))[..., 0]
        assert block.tolist() == ([[4, 5], [11, 12]] if shift else [[5, 6], [12, 13]])
    positions, segments = seen[0]
    assert segments.tolist() == [[0, 0, 1, 1, 1, 1, 0], [1] * 7]
    assert positions[0, 2:6].tolist() == [0, 1, 2, 3] and positions[1].tolist() == list(range(7))


# --- invariance ----------------------------------------------------------------------------------


def test_a_sample_depends_on_its_address_only(network, params):
    config = config_of()
    base = sample(network, params, config, requests_of())
    assert len(np.unique(base.logprobs.reshape(8, -1), axis=0)) > 6

    def check(rollouts, rows, samples=slice(None), room=slice(None)):
        for name in ("tokens", "mask", *STATISTICS):
            found, expected = getattr(rollouts, name)[:, samples, room], getattr(base, name)[rows]
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5, err_msg=name)

    def take(rows, **fields):
        return Requests(*(x[jnp.array(rows)] for x in requests_of(**fields)[:3]))

    check(sample(network, params, config, take([2, 0, 3, 1])), [2, 0, 3, 1])
    # Fewer prompts, more padding, more samples in another order; a program with more room than
    # its rows may use, which is no more canvas.
    wide = config_of(samples_per_prompt=3, max_new_tokens=9, steps=6)
    other = dict(sample_ids=np.array([[1, 7, 0]] * 2), max_new_tokens=np.full((2, 3), 6, np.int32))
    found = sample(network, params, wide, take([2, 1], extra=3)._replace(**other))
    check(found, [2, 1], np.array([2, 0]), slice(6))
    assert not found.mask[..., 6:].any() and (found.tokens[..., 6:] == PAD).all()
    # Every step of the run has its own noise.
    later, again = (sample(network, params, config, requests_of(), step) for step in (5, STEP))
    check(again, [0, 1, 2, 3])
    assert (later.logprobs != base.logprobs).any(axis=-1).all()


def test_mesh_and_one_device_give_the_same_samples(network, params, mesh_2x2x2):
    config, requests = config_of(), requests_of()
    one = sample(network, params, config, requests)
    with jax.set_mesh(mesh_2x2x2):
        placed = jax.device_put(params, network.shardings(mesh_2x2x2))
        run = jax.jit(make_diffusion_sampler(network, config))
        many = jax.device_get(run(placed, put_rows(requests, mesh_2x2x2), KEY, jnp.int32(STEP)))
    np.testing.assert_array_equal(one.tokens, many.tokens)
    np.testing.assert_allclose(one.logprobs, many.logprobs, rtol=0, atol=1e-5)
    # 8 rows on one shard, 2 on each of 4; both blocks of 2 steps are needed.
    assert one.slot_steps.tolist() == [32] * 4 and many.slot_steps.tolist() == [8] * 4


def test_one_program_for_all_steps_keys_and_limits(network, params, compilations):
    run = jit_sampler(network, config_of(pad_token=STOPS[1]))  # of this test alone
    with compilations() as programs:
        for step, most in itertools.product(range(2), (3, 6)):
            limits = dict(LIMITS, max_new_tokens=jnp.full((4, 2), most, jnp.int32))
            key = purpose_key(step, Purpose.ROLLOUTS)
            run(params, requests_of(**limits), key, jnp.int32(step))
    assert programs.count("jit(sample)") == 1


def test_requests_that_cannot_be_are_refused(network, params):
    run = make_diffusion_sampler(network, config_of())
    with pytest.raises(ValueError, match="continued must be None"):
        run(params, requests_of(continued=jnp.zeros(4, jnp.int32)), KEY, 0)
    with pytest.raises(AssertionError, match="shape"):
        run(params, requests_of(temperature=jnp.ones((4, 5))), KEY, 0)
