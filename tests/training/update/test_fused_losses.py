"""Gradients of preference losses through the fused log-probabilities, with every option on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.objectives.preference.links import logistic
from rljax.objectives.unpaired.links import kto
from rljax.sampling.distribution import TokenFilter
from rljax.training.update.token_statistics import token_statistics
from tests.training.update.test_token_statistics import V, example, naive_statistics

LENGTHS = np.array([3, 6, 1, 4])
REFERENCE = np.float32([-7.0, -15.0, -3.0, -9.0])


def dpo(sums):
    """Rows 0 and 2 are chosen, 1 and 3 rejected; labels are smoothed."""
    ratios = (sums - REFERENCE).reshape(2, 2)
    return logistic(ratios[:, 0] - ratios[:, 1], beta=0.7, label_smoothing=0.2).mean()


def weighted_kto(sums):
    """Desired completions weigh more than the others."""
    labels = jnp.array([True, False, True, False])
    weights = dict(desirable_weight=1.33, undesirable_weight=0.8)
    return kto(sums, REFERENCE, labels, jnp.full(4, 0.2), beta=0.3, **weights).mean()


@pytest.mark.parametrize("loss", [dpo, weighted_kto])
@pytest.mark.parametrize("options", [{}, dict(chunk_slots=7)], ids=["kept", "many"])
def test_the_gradient_equals_that_of_whole_logits(loss, options):
    given, token_filter = example(), TokenFilter(temperature=0.8)
    mask = np.arange(given.targets.shape[1]) < LENGTHS[:, None]

    def fused(hidden, vocabulary):
        found = token_statistics(
            hidden, vocabulary, given.targets, token_filter, vocab_size=V, **options
        )
        return loss(jnp.where(mask, found.logprobs, 0.0).sum(axis=-1))

    def naive(hidden, vocabulary):
        logprobs, _ = naive_statistics(hidden, vocabulary, given.targets, token_filter)
        return loss(jnp.where(mask, logprobs, 0.0).sum(axis=-1))

    both = [
        jax.jit(jax.value_and_grad(each, argnums=(0, 1)))(given.hidden, given.vocabulary)
        for each in (fused, naive)
    ]
    for ours, theirs in zip(*map(jax.tree.leaves, both), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    assert np.abs(both[1][1][0]).max() > 1e-2
    assert not np.abs(both[0][1][0][~mask]).max()  # nothing flows into padding
