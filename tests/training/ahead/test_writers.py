"""Samples that are drawn in pieces are those of one go, if the policy stands still."""

import jax
import numpy as np
import pytest

from rljax.sampling.request import StopReason
from rljax.training.ahead.writers import InPieces, make_writer, pieces_of
from rljax.training.collect.experience import Policy
from rljax.training.families.policy_gradient import PolicyGradient

WORKERS = "--config.scoring.workers=1"


@pytest.fixture
def made(pieces):
    """The family of the tiny run without a warm-up, its policy, and the context."""
    context, stage, params, _ = pieces("reinforce", WORKERS)
    return PolicyGradient(context, stage, None, 3), params, context, stage


@pytest.mark.parametrize("tokens", [2, 5])
def test_pieces_give_the_samples_of_one_go(tokens, made):
    family, params, context, stage = made
    source = family.source
    policy = Policy(params, version=7, weights=source.sampler.load(params))
    whole, after = source.draw(policy, source.first_state(), 1)
    writer = InPieces(context, stage, source, tokens)
    work, count = writer.begin(source.first_state(), 1), 0
    while not writer.is_done(work):
        before = jax.tree.map(np.copy, work)
        work, count = writer.go_on(work, policy._replace(version=7 + count)), count + 1
        kept = np.arange(stage.max_new_tokens) < before.length[:, None]
        assert (work.tokens[kept] == before.tokens[kept]).all()
    assert 1 < count <= pieces_of(stage, tokens)
    samples, state = writer.finished(work)
    assert state == after
    assert samples.texts == whole.texts and samples.records == whole.records
    mask = whole.rollouts.mask
    for name in ("tokens", "mask", "stop_reason", "finished", "temperature"):
        mine, theirs = (np.asarray(getattr(x.rollouts, name)) for x in (samples, whole))
        np.testing.assert_array_equal(mine, theirs, err_msg=name)
    np.testing.assert_allclose(
        samples.rollouts.logprobs[mask], whole.rollouts.logprobs[mask], atol=1e-5
    )
    # Each piece has the version of the weights that drew it.
    place = np.broadcast_to(np.arange(stage.max_new_tokens), mask.shape)
    assert (samples.versions[mask] == 7 + place[mask] // tokens).all()
    assert (samples.rollouts.stop_reason != StopReason.PAUSED).all()


def test_pieces_of_a_completion(made):
    *_, context, stage = made
    assert stage.max_new_tokens == 6
    assert [pieces_of(stage, tokens) for tokens in (0, 1, 2, 4, 6, 9)] == [1, 6, 3, 2, 1, 1]
    assert isinstance(make_writer(context, stage, made[0].source, 2), InPieces)
