"""Beam search over pieces, and chains of attempts."""

import numpy as np
import pytest

from rljax.sampling.engine import Engine
from rljax.sampling.request import StopReason
from rljax.training.collect.branches import Branch, grow
from rljax.training.test_time.beams import BeamSearch
from rljax.training.test_time.chains import first_attempts, next_attempts, said
from tests.sampling.tiny import KEY, config_of, network_of, one_device, params_of, requests_of

SLOTS, BEAMS, WIDTH = 6, 4, 2
IDS = np.arange(BEAMS)


def engine_of(samples, room):
    config = config_of(samples_per_prompt=samples, max_new_tokens=room, temperature=1.5)
    return Engine(network_of(), config, one_device())


@pytest.fixture(scope="module")
def engines():
    return {shape: engine_of(*shape) for shape in ((WIDTH, SLOTS), (WIDTH, 2), (1, 2))}


@pytest.fixture(scope="module")
def weights(engines):
    return engines[WIDTH, 2].load(params_of(network_of()))


def value(branches):
    """Some number of the tokens, without ties."""
    return np.array([float(np.sin(one.tokens * 1.7).sum()) for one in branches])


def whole(engine, weights, requests):
    """Samples 0 .. N-1 of each prompt, in one go."""
    branches = [Branch(place) for place in range(len(requests.prompts)) for _ in range(2)]
    ids = np.tile(IDS.reshape(2, 2), (len(requests.prompts), 1))
    own = dict(slots=SLOTS, rows=8, key=KEY, step=0)
    found = grow(engine, weights, requests, branches, ids, **own)
    flat = [child for family in found for child in family]
    return [flat[start : start + BEAMS] for start in range(0, len(flat), BEAMS)]


def search_of(pieces, ahead=None):
    return BeamSearch(pieces, ahead, value, BEAMS, SLOTS, KEY)


def test_pieces_of_a_branch_are_what_is_written_in_one_go(engines, weights):
    requests = requests_of()
    expected = whole(engines[WIDTH, SLOTS], weights, requests)
    begun = [Branch(place) for place in range(4)]
    while any(not one.ended for one in begun):
        live = [one for one in begun if not one.ended]
        own = dict(slots=SLOTS, rows=4, key=KEY, step=0)
        ids = np.zeros((len(live), 1), int)
        grown = iter(grow(engines[1, 2], weights, requests, live, ids, **own))
        begun = [one if one.ended else next(grown)[0] for one in begun]
    for one, (first, *_) in zip(begun, expected, strict=True):
        np.testing.assert_array_equal(one.tokens, first.tokens)
        assert one.stop_reason == first.stop_reason
        for name in ("logprobs", "entropy"):
            np.testing.assert_allclose(one.joined(name), first.joined(name), atol=1e-5)
    assert len({one.length for one in begun}) > 1


def test_with_pieces_of_a_whole_completion_it_is_best_of_n(engines, weights):
    requests, pieces = requests_of(), engines[WIDTH, SLOTS]
    best, spent = search_of(pieces)(weights, requests)
    for one, cost, samples in zip(best, spent, whole(pieces, weights, requests), strict=True):
        expected = samples[int(np.argmax(value(samples)))]
        np.testing.assert_array_equal(one.tokens, expected.tokens)
        assert cost == sum(sample.length for sample in samples) and one.ended


def test_every_piece_that_is_kept_is_among_the_best_of_its_step(engines, weights):
    """The search is done again by hand, from what it asked the model to compare."""
    requests, asked = requests_of((3,), ids=(5,)), []

    def watched(branches):
        asked.append(list(branches))
        return value(branches)

    search = BeamSearch(engines[WIDTH, 2], None, watched, BEAMS, SLOTS, KEY)
    (best,), (spent,) = search(weights, requests)
    kept, written = [], 0
    for number, children in enumerate(asked):
        live = [one for one in kept if not one.ended] if number else [Branch(0)] * 2
        assert len(children) == WIDTH * len(live)
        for place, child in enumerate(children):
            before = live[place // WIDTH].tokens
            np.testing.assert_array_equal(child.tokens[: len(before)], before)
            written += child.length - len(before)
        pool = [one for one in kept if one.ended] + children
        kept = [pool[i] for i in np.argsort(-value(pool), kind="stable")[: BEAMS // WIDTH]]
    assert len(asked) > 1 and spent == written
    np.testing.assert_array_equal(best.tokens, kept[0].tokens)


def test_lookahead_is_greedy_and_is_paid_but_not_kept(engines, weights):
    requests, asked = requests_of((3,), ids=(5,)), []

    def watched(branches):
        asked.append([one.length for one in branches])
        return value(branches)

    plain = BeamSearch(engines[WIDTH, 2], None, watched, BEAMS, SLOTS, KEY)
    ahead = BeamSearch(engines[WIDTH, 2], engines[1, 2], watched, BEAMS, SLOTS, KEY)
    (_,), (cost,) = plain(weights, requests)
    short = asked[0]
    asked.clear()
    (best,), (more,) = ahead(weights, requests)
    assert max(asked[0]) == 4 and max(short) == 2  # a piece, and another one ahead
    assert more > cost and best.ended
    # Twice the same: what lies ahead has no noise of its own.
    (again,), _ = ahead(weights, requests)
    np.testing.assert_array_equal(best.tokens, again.tokens)


def test_a_chain_reads_what_was_said_before(engines, weights):
    """The second attempt is a sample of the prompt with the first one and the text behind it."""
    requests = requests_of((3, 2))
    piece = {"tokens": np.array([5, 7, 2], np.int32)}
    done = [Branch(0, (piece,), StopReason.STOP_TOKEN), Branch(1, (piece,), StopReason.LENGTH)]
    assert [said(one) for one in done] == [[5, 7], [5, 7, 2]]
    prompts = [row[mask].tolist() for row, mask in zip(*requests[:2], strict=True)]
    own = dict(slots=2, rows=2, key=KEY, step=0)
    found = next_attempts(
        engines[1, 2],
        weights,
        prompts,
        [(0, done[:1]), (1, done[1:])],
        again=[9, 9],
        prompt_ids=requests.prompt_ids,
        sample_ids=np.array([8, 8]),
        pad=0,
        **own,
    )
    read = [[*prompts[0], 5, 7, 9, 9], [*prompts[1], 5, 7, 2, 9, 9]]
    for place, row in enumerate(read):
        alone = requests_of((len(row),), ids=(place,))._replace(prompts=np.array([row], np.int32))
        ((expected,),) = grow(engines[1, 2], weights, alone, [Branch(0)], np.array([[8]]), **own)
        np.testing.assert_array_equal(found[place].tokens, expected.tokens)


@pytest.mark.parametrize(
    "attempts, budget, chains",
    [((1, 2, 4), 8, [8, 4, 2, 2]), ((1,), 5, [5]), ((2,), 5, [2, 2]), ((1, 3), 7, [7, 2, 2])],
)
def test_shorter_chains_are_the_beginnings_of_longer_ones(attempts, budget, chains):
    assert first_attempts(attempts, budget) == chains
