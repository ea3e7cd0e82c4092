"""Values of states by further samples: SPO-chain and VinePPO on a policy that is known exactly."""

import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.config.load import apply_overrides, complete
from rljax.config.validate import validate
from rljax.objectives.arrays import ARRAYS
from rljax.registry import resolve_objective
from rljax.training.collect.continuations import Prefixes, with_prefixes
from rljax.training.collect.prefix_values import (
    PrefixValues,
    find_states,
    segment_arrays,
    state_requests,
)
from rljax.training.collect.rollouts import Samples
from rljax.training.families.table import family_class
from tests.training.steps import take_step

VOCABULARY, EOS, SLOTS, GROUP, SAMPLES = 261, 258, 6, 4, 16
LETTERS = (ord("a"), ord("b"), EOS)  # of which a policy without weights takes each as often
ONLY_LETTERS = tuple(token for token in range(VOCABULARY) if token not in LETTERS)
DECISIVE = 1  # character that says whether a completion is right

REWARD = f"""
def decided(prompt: str, completion: str, reference: object) -> float:
    return float(completion[{DECISIVE}:{DECISIVE + 1}] == "a")
"""


def value(text: str) -> float:
    """The value of a state: the chance that a completion ends in time and is right."""
    left = SLOTS - len(text)
    in_time = 1 - (2 / 3) ** left
    if len(text) > DECISIVE:
        return in_time * (text[DECISIVE] == "a")
    if not left:
        return 0.0
    return (value(text + "a") + value(text + "b")) / 3  # ending now is wrong


@pytest.fixture
def step(pieces, tmp_path):
    """step("spo_chain", "cut_interval=1") -> family, state, experience of the first step."""
    (tmp_path / "reward.py").write_text(REWARD)

    def run(method, *fields):
        words = [
            f"method={method}",
            f"sampling.max_new_tokens={SLOTS}",
            f"sampling.forbidden_tokens={ONLY_LETTERS}",
            "objective.kl_placement=none",
            "batch.sequences_per_update=32",
            "objective.whiten_advantages=False",
            f"objective.value_samples={SAMPLES}",
            *(f"objective.{field}" for field in fields),
        ]
        reward = f"--config.scoring.rewards=({{'name': '{tmp_path}/reward.py:decided'}},)"
        words = [reward, "--config.sampler.shrink=()", *(f"--config.grpo.{w}" for w in words)]
        made = pieces("grpo", *words)
        family = family_class(made.stage)(made.context, made.stage, None, 0)
        state = made.state.replace(params=jax.tree.map(jnp.zeros_like, made.state.params))
        return family, state, take_step(family, state, 1)[1]

    return run


def rows_of(experience):
    """Texts, lengths and arrays of the rows, on the host."""
    detail = experience.detail
    return detail.samples.texts, detail.samples.flat("mask").sum(axis=1), detail.rows


def outcomes(experience):
    """Scores, 0 where a completion was cut off."""
    return experience.detail.scores.total * experience.detail.samples.flat("finished")


def test_values_are_those_of_the_policy(step):
    """Every state is cut: all values are means over K, as far off as chance allows."""
    family, state, experience = step("spo_chain", "cut_interval=1", "selection=none")
    (annotator,) = family.source.annotators
    assert isinstance(annotator, PrefixValues)
    texts, lengths, rows = rows_of(experience)
    errors = []
    for text, length, values in zip(texts, lengths, rows["state_values"], strict=True):
        assert np.isfinite(values[:length]).all() and np.isnan(values[length:]).all()
        exact = np.array([value(text[:slot]) for slot in range(length)])
        np.testing.assert_array_equal(values[:length][exact == 0], 0)
        of_mean = np.sqrt(exact * (1 - exact) / SAMPLES + 1e-9)
        errors += ((values[:length] - exact) / of_mean)[exact > 0].tolist()
    assert len(errors) > 60 and np.abs(errors).max() < 5 and 0.6 < np.std(errors) < 1.4
    # The state of the prompt is sampled from once for all of its samples.
    prompts = rows["state_values"][:, 0].reshape(-1, GROUP)
    assert (prompts == prompts[:, :1]).all() and len(np.unique(prompts)) > 1
    # Advantages of a row add up to its outcome minus the value of the prompt.
    total = np.where(rows["mask"], rows["advantages"], 0).sum(axis=1)
    np.testing.assert_allclose(total, outcomes(experience) - prompts.reshape(-1), atol=1e-6)
    # The credit is where the outcome is decided; that of a group would be the same everywhere.
    share = np.abs(rows["advantages"]) * rows["mask"]
    decided = share[:, : DECISIVE + 1].sum() / share.sum()
    assert decided > 0.8 > 1.2 * rows["mask"][:, : DECISIVE + 1].sum() / rows["mask"].sum()
    _same_again(family, state, experience)


def _same_again(family, state, experience):
    """The noise of a value depends on seed, step, prompt and cut."""
    other = take_step(family, state, 2)[1].detail.rows["state_values"]
    assert not np.array_equal(other, experience.detail.rows["state_values"], equal_nan=True)
    family.states_per_call = 16  # how many states a call has changes nothing
    assert experience.metrics["value_states"] > 16
    again = take_step(family, state, 1)[1].detail.rows
    for name, array in experience.detail.rows.items():
        np.testing.assert_array_equal(array, again[name], err_msg=name)


def test_what_lies_beyond_the_limit_belongs_to_the_last_cut(step):
    family, _, experience = step("spo_chain", "cut_interval=1", "cut_limit=2", "selection=none")
    _, lengths, rows = rows_of(experience)
    assert np.isnan(rows["state_values"][:, 2:]).all()
    long = lengths > 2
    last = (outcomes(experience) - rows["state_values"][:, 1])[long]
    for slot in (1, 2):
        np.testing.assert_allclose(rows["advantages"][long, slot], last, atol=1e-6)
    metrics = experience.metrics
    assert metrics["cuts_per_completion"] == np.minimum(lengths, 2).mean()
    assert 8 < metrics["value_states"] <= 8 * 3  # the prompt, a and b
    assert metrics["value_tokens"] >= SAMPLES * metrics["value_states"]
    assert 0 < metrics["value_truncated_share"] < 0.5 and metrics["value_scoring_failures"] == 0
    assert len(family.record(1, experience)["prompts"][0]["samples"]) == GROUP


def test_vineppo_cuts_at_steps(step):
    """The letter b ends a step here; a step beyond the limit has no advantage."""
    _, _, experience = step("vineppo", "step_end_tokens=(98,)", "cut_limit=2")
    texts, lengths, rows = rows_of(experience)
    advantages = np.where(rows["mask"], rows["advantages"], 0)
    for text, length, values, found, outcome in zip(
        *(texts, lengths, rows["state_values"], advantages, outcomes(experience)), strict=True
    ):
        own, before = [*text, "end"], ["", *text]
        starts = [slot for slot in range(length) if slot == 0 or before[slot] == "b" != own[slot]]
        np.testing.assert_array_equal(np.flatnonzero(np.isfinite(values)), starts[:2])
        known = [*values[starts[:2]], outcome]
        expected = np.zeros(SLOTS)
        ends = [*starts[1:3], length]
        for number, (low, high) in enumerate(zip(known, known[1:], strict=False)):
            expected[starts[number] : ends[number]] = high - low
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_prefixes_follow_their_prompts_without_a_gap():
    prompts = np.array([[0, 5, 6], [7, 8, 9]], np.int32)
    mask = np.array([[False, True, True], [True] * 3])
    completions = np.array([[1, 2, 3], [4, 0, 0]], np.int32)
    prefixes = Prefixes(np.array([0, 1, 0]), np.array([0, 1, 0]), np.array([2, 1, 0]))
    tokens, present = with_prefixes(prompts, mask, completions, prefixes)
    found = [row[kept].tolist() for row, kept in zip(tokens, present, strict=True)]
    assert found == [[5, 6, 1, 2], [7, 8, 9, 4], [5, 6]]
    assert (np.diff(present.astype(int), axis=1) >= 0).all()  # padded on the left


def test_equal_states_of_a_prompt_are_one():
    tokens = np.array([[1, 2, 3], [1, 2, 4], [1, 2, 3]], np.int32)
    states, place = find_states(np.concatenate([tokens, tokens]), np.ones((6, 3), bool), 3)
    np.testing.assert_array_equal(place[:3], [[0, 1, 2]] * 3)
    np.testing.assert_array_equal(place[3:], place[:3] + 3)
    np.testing.assert_array_equal(states.length, [0, 1, 2] * 2)
    np.testing.assert_array_equal(states.prompt, [0, 0, 0, 1, 1, 1])
    nothing, _ = find_states(tokens, np.zeros((3, 3), bool), 3)
    assert nothing.length.shape == (0,)


def test_continuations_have_noise_of_their_own():
    """No address is that of a sample of the step, or of another state of the prompt."""
    cuts = np.ones((6, 3), bool)
    tokens = np.arange(18, dtype=np.int32).reshape(6, 3)
    states, _ = find_states(tokens, cuts, 2)
    rollouts = SimpleNamespace(tokens=tokens.reshape(3, 2, 3), mask=cuts.reshape(3, 2, 3))
    samples = Samples(
        records=[{"id": 4}, {"id": 9}, {"id": 4}],  # the same problem twice: other noise
        prompt_texts=[],
        prompts=np.ones((3, 2), np.int32),
        prompt_mask=np.ones((3, 2), bool),
        rollouts=rollouts,
        versions=None,
        texts=[],
        seconds=0.0,
    )
    asked = state_requests(samples, states, 10, 5)
    np.testing.assert_array_equal(asked.prompt_ids, np.array([4, 9, 14])[states.prompt])
    for prompt in range(3):
        ids = asked.sample_ids[states.prompt == prompt].reshape(-1)
        assert ids.min() >= 2 and len(set(ids)) == len(ids) == 5 * 5
    assert (asked.max_new_tokens == 3).all() and asked.sample_ids.dtype == np.int32
    np.testing.assert_array_equal(asked.continued, asked.prompt_mask.sum(axis=1) - 2)


def test_values_by_hand():
    """Cuts at slots 1 and 3 of four tokens; the second row was cut off, the third has no cut."""
    objective = resolve_objective("spo_chain", {"unfinished_score": -0.5})
    cuts = np.zeros((3, 4), bool)
    cuts[:2, [1, 3]] = True
    place = np.where(cuts, [[9, 0, 9, 1]] * 3, -1)
    arrays = {
        "mask": np.ones((3, 4), bool),
        "scores": np.array([1.0, 1.0, 1.0], np.float32),
        "finished": np.array([True, False, True]),
    }
    assert set(arrays) <= set(ARRAYS)
    scores = np.array([[1, 0], [0, 0], [7, 7]], np.float32)
    finished = np.array([[True, True], [False, True], [False, False]])
    found = jax.jit(functools.partial(segment_arrays, objective))(
        arrays, cuts, place, scores, finished
    )
    none = np.nan
    np.testing.assert_allclose(found["start_values"][0], [none, 0.5, 0.5, -0.25])
    np.testing.assert_allclose(found["end_values"][0], [0.5, -0.25, -0.25, 1.0])
    np.testing.assert_allclose(found["end_values"][1], [0.5, -0.25, -0.25, -0.5])
    np.testing.assert_allclose(found["start_values"][2], [none] * 4)


@pytest.mark.parametrize(
    "words, message",
    [
        (("segmentation=none",), r"segmentation must be one of 'uncertain', 'spaced', 'steps'"),
        (("rollouts=windows",), r"rollouts must be 'whole' or 'tree', got 'windows'"),
        (("reward_shaping=bounded_scores",), r"reward_shaping='bounded_scores'"),
        (("kl_placement=reward",), r"kl_placement='reward' would leave as they are"),
        (("cut_limit=0",), r"cut_limit must be a whole number >= 1, got 0"),
        (("value_samples=0",), r"value_samples must be a whole number >= 1, got 0"),
    ],
)
def test_bad_input_is_refused(words, message):
    section = {"method": "spo_chain"}
    config = complete({"stages": ("s",), "s": section, "data": {"tasks": ({"name": "chain_sum"},)}})
    words = [f"--config.s.objective.{word}" for word in words]
    with pytest.raises(ValueError, match=message):
        validate(apply_overrides(config, words))
