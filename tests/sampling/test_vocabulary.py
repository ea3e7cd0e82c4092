"""Ids that may not come: rows without a text, forbidden ones; and logits that are not finite."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.data.tokenizers import ByteTokenizer
from rljax.models.finite import first_not_finite
from rljax.sampling.distribution import EXCLUDED, TokenFilter, log_distribution, token_bias
from rljax.sampling.engine import Engine
from rljax.sampling.generate import Generator
from rljax.sampling.options import SamplingOptions
from rljax.sampling.vocabulary import samplable_ids, text_only
from rljax.training.update.token_statistics import token_statistics
from tests.sampling.tiny import (
    PAD,
    STOP,
    VOCABULARY,
    config_of,
    network_of,
    one_device,
    params_of,
    requests_of,
)

EVERYTHING = tuple(range(VOCABULARY))


def test_rows_without_a_token_are_never_drawn():
    known = np.array([True, True, False, True, False])
    found = samplable_ids(known, 8, ends=(6, 9))
    assert found.tolist() == [True, True, False, True, False, False, True, False]
    assert text_only(TokenFilter(), found).textless == ((2, 3), (4, 6), (7, 8))
    assert samplable_ids(np.ones(9, bool), 8, ()).all()


def test_where_every_row_has_a_text_nothing_changes():
    plain = TokenFilter(top_k=3)
    assert text_only(plain, np.ones(5, bool)) is plain
    assert text_only(TokenFilter(), np.array([True, False])).plain is False


def test_a_bias_names_a_row_without_a_text_and_lets_it_come():
    found = TokenFilter(textless=((3, 6),), logit_bias=((4, 2.0),), forbidden_tokens=(0,))
    assert np.asarray(token_bias(found, 7)).tolist() == pytest.approx(
        [EXCLUDED, 0, 0, EXCLUDED, 2, EXCLUDED, 0]
    )


def test_a_filter_at_another_temperature_leaves_out_the_same():
    found = TokenFilter(top_k=3, textless=((3, 6),), logit_bias=((4, 2.0),), forbidden_tokens=(0,))
    greedy = found.at_temperature(0.0)
    assert greedy.greedy and not greedy.truncates
    np.testing.assert_array_equal(token_bias(greedy, 7), token_bias(found, 7))


@pytest.mark.parametrize("filtered", [{}, dict(top_k=3), dict(top_p=0.8, temperature=0.7)])
def test_sampler_and_trainer_leave_out_the_same_rows(filtered):
    """As if they were forbidden, in values and in gradients."""
    textless = TokenFilter(**filtered, textless=((4, 9),))
    forbidden = TokenFilter(**filtered, forbidden_tokens=(4, 5, 6, 7, 8))
    keys = jax.random.split(jax.random.key(0), 3)
    hidden, matrix = jax.random.normal(keys[0], (3, 4, 16)), jax.random.normal(keys[1], (12, 16))
    targets = jnp.array([[0, 1, 2, 3], [9, 10, 11, 0], [1, 2, 3, 9]])

    def loss(hidden, token_filter):
        found = token_statistics(hidden, matrix, targets, token_filter, vocab_size=12)
        return found.logprobs.sum(), found.logprobs

    both = [jax.grad(loss, has_aux=True)(hidden, each) for each in (textless, forbidden)]
    jax.tree.map(np.testing.assert_array_equal, *both)
    log_p = log_distribution(hidden @ matrix.T, textless)
    np.testing.assert_array_equal(np.exp(log_p[..., 4:9]), 0.0)
    taken = log_distribution(hidden @ matrix.T, textless, taken=targets)
    picked = np.take_along_axis(np.asarray(taken), np.asarray(targets)[..., None], -1)[..., 0]
    np.testing.assert_allclose(both[0][1], picked, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 0.0])
def test_a_generator_never_writes_rows_that_its_tokenizer_lacks(
    tiny_network, one_device, temperature
):
    network = tiny_network(vocab_size=300, layers=1)
    params = network.init(jax.random.key(0), one_device)
    embedding = params["embedding"].at[270:].multiply(30.0)  # the likeliest by far
    generator = Generator(network, {**params, "embedding": embedding}, ByteTokenizer(), one_device)
    options = SamplingOptions(n=4, max_new_tokens=12, temperature=temperature)
    free = generator.generate(["a", "bc"], options)
    assert max(token for group in free for each in group for token in each.tokens) < 259
    named = dataclasses.replace(options, logit_bias={280: 1e4})
    written = generator.generate(["a"], named)[0]
    assert {token for each in written for token in each.tokens} == {280}


# --- nothing left --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "filtered, message",
    [
        (dict(forbidden_tokens=EVERYTHING), "names all 13 tokens of the vocabulary.*at least one"),
        (dict(forbidden_tokens=EVERYTHING[:8], textless=((8, 13),)), "or all that have a text"),
        (dict(logit_bias=tuple((t, -1e15) for t in EVERYTHING)), "bias below -1e.06, the largest"),
        (
            dict(forbidden_tokens=(0,), logit_bias=tuple((t, -1e9) for t in EVERYTHING)),
            "nothing is left of the model's logits",
        ),
    ],
)
def test_leaving_no_token_is_an_error(filtered, message):
    with pytest.raises(ValueError, match=message):
        Engine(network_of(), config_of(**filtered), one_device())
    assert token_bias(TokenFilter(forbidden_tokens=EVERYTHING[1:]), VOCABULARY) is not None


def test_a_generator_refuses_it_in_its_own_words(tiny_network, one_device):
    network = tiny_network(vocab_size=259, layers=1)
    params = network.init(jax.random.key(0), one_device)
    generator = Generator(network, params, ByteTokenizer(), one_device)
    options = SamplingOptions(forbidden_tokens=range(259))
    with pytest.raises(ValueError, match=r"at least one.*\(SamplingOptions.forbidden_tokens\)"):
        generator.generate(["a"], options)
    ends = SamplingOptions(forbidden_tokens=range(258), max_new_tokens=4, min_new_tokens=2)
    with pytest.raises(ValueError, match="min_new_tokens=2, but every token that does not end"):
        generator.generate(["a"], ends)


# --- positions -----------------------------------------------------------------------------------


def test_completions_stay_inside_the_models_positions(tiny_network, one_device):
    network = tiny_network(vocab_size=259, layers=1, max_positions=16)
    params = network.init(jax.random.key(0), one_device)
    generator = Generator(network, params, ByteTokenizer(), one_device)
    (found,) = generator.generate(["x" * 12], SamplingOptions(max_new_tokens=4))[0]
    message = "Prompt 1 and its completion can have 17 tokens, and the model is made for 16 posi"
    with pytest.raises(ValueError, match=message):
        generator.generate(["x" * 12, "x" * 13], SamplingOptions(max_new_tokens=4))
    if not found.finished:
        with pytest.raises(ValueError, match="can have 17 tokens"):
            generator.resume([found], 1)


# --- logits that are not finite ------------------------------------------------------------------


def broken(params, layer: int | None) -> dict:
    """Parameters with one NaN: in a layer, or in the final norm."""
    if layer is None:
        scale = params["final_norm"]["scale"].at[3].set(jnp.nan)
        return {**params, "final_norm": {"scale": scale}}
    kernel = params["blocks"]["mlp"]["up"]["kernel"]
    mlp = {**params["blocks"]["mlp"], "up": {"kernel": kernel.at[layer, 2, 1].set(jnp.nan)}}
    return {**params, "blocks": {**params["blocks"], "mlp": mlp}}


def test_the_first_part_that_is_not_finite_is_named():
    network = network_of(layers=2)
    engine = Engine(network, config_of(), one_device())
    for layer, name in ((1, "output of layer 1 of 2"), (None, "output of the final norm")):
        weights = engine.load(broken(params_of(network), layer))
        with pytest.raises(ValueError, match=f"{name} is the first that is not finite") as caught:
            engine.sample(weights, requests_of(), key=jax.random.key(0), step=7)
        assert "Token 0 of sample 0 of prompt 0 in step 7" in str(caught.value)
        assert "config.model.init_from" in str(caught.value)


def test_of_a_model_that_is_finite_no_part_is_named():
    network = network_of(layers=2)
    assert first_not_finite(network, params_of(network), np.array([1, STOP, PAD])) is None
