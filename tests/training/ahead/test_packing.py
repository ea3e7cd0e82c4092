"""Experience survives a checkpoint bit for bit."""

import jax
import numpy as np
import pytest

from rljax.environments.players import Opening
from rljax.rewards.pool import Scores
from rljax.sampling.request import Rollouts
from rljax.training.ahead.packing import pack, unpack
from rljax.training.ahead.pipeline import Ready
from rljax.training.collect.experience import Demonstrations, Experience
from rljax.training.collect.rollouts import Samples


def example(*, prompts: int = 2, samples: int = 3, tokens: int = 5) -> Experience:
    """A step with everything in it; numbers are random, some not finite."""
    rng, shape = np.random.default_rng(0), (prompts, samples, tokens)
    per_token = {
        name: rng.normal(size=shape).astype(np.float32)
        for name in ("logprobs", "model_logprobs", "tempered_logprobs", "entropy", "temperature")
    }
    per_token["logprobs"][0, 0, 0] = -np.inf
    rollouts = Rollouts(
        tokens=rng.integers(0, 99, shape).astype(np.int32),
        mask=rng.random(shape) < 0.7,
        stop_reason=np.zeros(shape[:2], np.int32),
        slot_steps=np.arange(prompts, dtype=np.int32),
        **per_token,
    )
    count = prompts * samples
    scores = Scores(
        total=np.array([np.nan, *range(count - 1)], np.float32),
        parts={"a b": np.zeros(count, np.float32)},
        correct=np.zeros(count, bool),
        judged=np.ones(count, bool),
        failed=np.zeros(count, bool),
        left_out=np.zeros(count, bool),
        first_error="line 1\nline 2 ünd",
        feedback=np.array(["é\udcff", *[""] * (count - 1)], object),
    )
    drawn = Samples(
        records=list(range(prompts)),
        prompt_texts=["2+3=", "é\udcff"][:prompts] + ["x"] * (prompts - 2),
        prompts=np.zeros((prompts, 4), np.int32),
        prompt_mask=np.ones((prompts, 4), bool),
        rollouts=rollouts,
        versions=np.full(shape, 7, np.int32),
        texts=[str(n) for n in range(count)],
        seconds=0.25,
    )
    return Experience(
        records=drawn.records,
        samples=drawn,
        scores=scores,
        demonstrations=Demonstrations(
            np.zeros((prompts, 2), np.int32), np.ones((prompts, 2), bool), np.zeros(prompts)
        ),
        arrays={"greedy_scores": np.zeros(count, np.float32)},
        metrics={"reward": 0.1 + 0.2, "nothing": float("nan")},
        seconds={"sampling": 0.25},
    )


def assert_equal(one, other) -> None:
    """Types, texts and bits."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert list(one) == list(other)
        one, other = list(one.values()), list(other.values())
    if isinstance(one, list | tuple):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_equal(a, b)
    elif isinstance(one, np.ndarray) and one.dtype == object:
        assert other.dtype == object and one.tolist() == other.tolist()
    elif isinstance(one, np.ndarray):
        assert (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
    else:
        assert one == other or one != one


def test_a_queue_comes_back_as_it_was():
    queue = {3: Ready(example(), (1, 2), 0.5), 4: Ready(example(prompts=1), (2,), 0.0)}
    content = pack(queue)
    assert content.dtype == np.uint8 and content.ndim == 1
    assert_equal(unpack(content), queue)
    assert pack(queue).tobytes() == content.tobytes()


def test_an_episode_of_several_players_comes_back_as_it_was():
    opening = Opening([[{"role": "user", "content": "a"}], "b"], {"said": []}, 1, ("x", "y"))
    whole = Experience([{"id": 3, "environment_players": opening}])
    assert_equal(unpack(pack(whole)), whole)


def test_an_empty_queue_is_not_empty_bytes():
    """An array without elements cannot be saved."""
    assert len(pack({})) > 0
    assert unpack(pack({})) == {}


def test_what_cannot_be_saved_is_named():
    with pytest.raises(TypeError, match="holds a PjitFunction"):
        pack({"x": jax.jit(lambda x: x)})
