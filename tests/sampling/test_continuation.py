"""Rows that pause and go on later, with the tokens that they would have had in one go."""

import jax
import numpy as np
import pytest

from rljax.sampling.choose import Penalties
from rljax.sampling.request import StopReason
from rljax.sampling.stop_strings import stop_string_automaton
from tests.sampling import reference
from tests.sampling.tiny import (
    LENGTHS,
    PAD,
    STOP,
    config_of,
    network_of,
    params_of,
    requests_of,
    sample,
)

GROUP, ROOM = 3, 4
SLOTS = 18  # of prompts with all that is written, so that one program serves all parts
TOKEN_BYTES = (b"", b"", b"", b"a", b"b", b"c", b"ab", b"bc", b"ca", b"", b"aa", b"cb", b"a")
FIELDS = ("tokens", "mask", *reference.STATISTICS)


def flattened(requests):
    """The same requests with a prompt of its own for each sample: [B * G, 1]."""
    rows = np.repeat(np.arange(len(requests.prompts)), GROUP)
    samples = np.tile(np.arange(GROUP, dtype=np.int32), len(requests.prompts))[:, None]

    def one(x):
        return None if x is None else x.reshape(-1, 1)

    return requests._replace(
        prompts=requests.prompts[rows],
        prompt_mask=requests.prompt_mask[rows],
        prompt_ids=requests.prompt_ids[rows],
        sample_ids=samples,
        continued=np.zeros(len(rows), np.int32),
        temperature=one(requests.temperature),
        min_new_tokens=one(requests.min_new_tokens),
        max_new_tokens=one(requests.max_new_tokens),
    )


def appended(requests, rollouts, rows):
    """The rows with what has been sampled at the end of their prompts."""
    prompts, mask = np.full((len(rows), SLOTS), 7, np.int32), np.zeros((len(rows), SLOTS), bool)
    counts = rollouts.mask[rows, 0].sum(axis=1)
    for place, row in enumerate(rows):
        sequence = [
            *requests.prompts[row][requests.prompt_mask[row]],
            *rollouts.tokens[row, 0][rollouts.mask[row, 0]],
        ]
        prompts[place, SLOTS - len(sequence) :] = sequence
        mask[place, SLOTS - len(sequence) :] = True
    picked = jax.tree.map(lambda x: x[rows], requests)
    continued = np.int32(picked.continued + counts)
    return picked._replace(prompts=prompts, prompt_mask=mask, continued=continued)


def in_parts(run, requests):
    """Samples ROOM tokens at a time until no row is paused: [N] dicts of lists, and reasons."""
    requests = flattened(requests)
    total = len(requests.prompts)
    rows, reasons = np.arange(total), np.zeros(total, int)
    joined = [{name: [] for name in FIELDS} for _ in range(total)]
    rounds = 0
    while len(rows):
        # Always N rows, so that one program serves all parts; copies are not read.
        filled = np.resize(np.arange(len(rows)), total)
        asked = jax.tree.map(lambda x: x[filled], requests)  # noqa: B023
        rollouts = run(asked)
        rounds += 1
        for place, row in enumerate(rows):
            kept = rollouts.mask[place, 0]
            for name in FIELDS:
                joined[row][name] += getattr(rollouts, name)[place, 0][kept].tolist()
            reasons[row] = rollouts.stop_reason[place, 0]
        paused = np.flatnonzero(rollouts.stop_reason[: len(rows), 0] == StopReason.PAUSED)
        requests, rows = appended(requests, rollouts, paused), rows[paused]
    return joined, reasons, rounds


def check(fields, requests, *, room=12, queue=None, given=None):
    """Compares one go over up to `room` tokens with parts; returns the one go."""
    network, given = network_of(), given or {}
    params = params_of(network)
    sizes = dict(samples_per_prompt=GROUP, max_new_tokens=room)
    whole = sample(network, params, config_of(**sizes, **fields), requests, **given)
    sizes = dict(samples_per_prompt=1, max_new_tokens=ROOM, **(queue or {}))
    config = config_of(**sizes, **fields)
    joined, reasons, rounds = in_parts(
        lambda asked: sample(network, params, config, asked, **given), requests
    )
    for row, (b, g) in enumerate(np.ndindex(len(LENGTHS), GROUP)):
        kept = whole.mask[b, g]
        assert joined[row]["tokens"] == whole.tokens[b, g][kept].tolist()
        for name in reference.STATISTICS:
            expected = getattr(whole, name)[b, g][kept]
            np.testing.assert_allclose(joined[row][name], expected, rtol=0, atol=1e-5, err_msg=name)
    np.testing.assert_array_equal(reasons, whole.stop_reason.ravel())
    assert rounds == -(-whole.mask.sum(axis=-1).max() // ROOM)
    return whole


def limited(room=12, **fields):
    """Each row with a limit of its own, so that a part that ends before it is paused."""
    most = np.random.default_rng(0).integers(ROOM + 1, room + 1, (len(LENGTHS), GROUP))
    return requests_of(slots=SLOTS, max_new_tokens=most.astype(np.int32), **fields)


@pytest.mark.contract
def test_rows_in_parts_equal_rows_in_one_go_with_penalties_and_a_queue():
    penalties = Penalties(repetition=1.3, presence=0.4, frequency=0.3)
    queue = dict(slots=5, refill_every=2)
    whole = check(dict(penalties=penalties, top_k=8), limited(), queue=queue)
    assert set(whole.stop_reason.ravel()) == {StopReason.LENGTH, StopReason.STOP_TOKEN}


def test_stop_strings_and_limits_count_over_pauses():
    """Some of the stop strings lie on both sides of a pause."""
    words = ("caab", "aaa", "bcc", "cabc")
    automaton = stop_string_automaton(words, TOKEN_BYTES)
    only_text = tuple(token for token in range(13) if not TOKEN_BYTES[token])
    least = np.random.default_rng(1).integers(0, 9, (len(LENGTHS), GROUP)).astype(np.int32)
    requests = limited()
    most = np.maximum(requests.max_new_tokens, least)
    requests = requests._replace(min_new_tokens=least, max_new_tokens=most)
    fields = dict(forbidden_tokens=tuple(t for t in only_text if t != STOP), temperature=4.0)
    whole = check(fields, requests, given=dict(stop_strings=automaton))
    lengths = whole.mask.sum(axis=-1)
    assert (lengths >= least).all()
    by_text = whole.stop_reason == StopReason.STOP_STRING
    across = 0
    for b, g in np.argwhere(by_text):
        text = [TOKEN_BYTES[token] for token in whole.tokens[b, g][whole.mask[b, g]]]
        assert any(word.encode() in b"".join(text) for word in words)
        start = (len(text) - 1) // ROOM * ROOM  # of the part in which the row ends
        across += not any(word.encode() in b"".join(text[start:]) for word in words)
    assert across >= 2


def test_without_a_limit_of_its_own_a_row_has_ended_at_the_budget():
    network, config = network_of(), config_of(max_new_tokens=3)
    requests = requests_of()
    ended = sample(network, params_of(network), config, requests)
    most = np.full((len(LENGTHS), GROUP), 4, np.int32)
    paused = sample(network, params_of(network), config, requests._replace(max_new_tokens=most))
    full = ended.mask.all(axis=-1)
    assert (ended.stop_reason[full] == StopReason.LENGTH).any()
    stopped = (ended.tokens[..., 2] == STOP)[full]
    np.testing.assert_array_equal(ended.stop_reason[full] == StopReason.STOP_TOKEN, stopped)
    np.testing.assert_array_equal(paused.stop_reason[full] == StopReason.PAUSED, ~stopped)
    np.testing.assert_array_equal(ended.tokens, paused.tokens)
    assert not paused.finished[paused.stop_reason == StopReason.PAUSED].any()


def test_a_tree_goes_on_from_one_prefix_with_further_samples():
    """G continuations of sample 0 of each prompt: sample 0 of them is the sample itself."""
    network, params = network_of(), params_of(network_of())
    config = config_of(max_new_tokens=9, forbidden_tokens=(STOP,))
    requests = requests_of()
    whole = sample(network, params, config, requests)
    cut = 3
    prompts = np.concatenate([requests.prompts, whole.tokens[:, 0, :cut]], axis=1)
    mask = np.concatenate([requests.prompt_mask, np.ones((4, cut), bool)], axis=1)
    branches = requests._replace(
        prompts=prompts,
        prompt_mask=mask,
        continued=np.full(4, cut, np.int32),
        sample_ids=np.tile(np.int32([[0, 10, 11]]), (4, 1)),
    )
    found = sample(network, params, config_of(max_new_tokens=6, forbidden_tokens=(STOP,)), branches)
    np.testing.assert_array_equal(found.tokens[:, 0], whole.tokens[:, 0, cut:])
    np.testing.assert_allclose(found.logprobs[:, 0], whole.logprobs[:, 0, cut:], rtol=0, atol=1e-5)
    for b in range(4):
        assert len({tuple(row) for row in found.tokens[b].tolist()}) == 3
    assert (found.tokens != PAD).any() and (found.stop_reason == StopReason.LENGTH).all()
