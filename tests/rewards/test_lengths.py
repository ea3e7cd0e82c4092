import numpy as np
import pytest

from rljax.rewards.compose import Composition
from rljax.rewards.functions import find_reward
from rljax.rewards.pool import Scorer

COSINE = {"name": "cosine_length", "options": {"max_length": 8}}


def values(spec, completion, tokens=None, reference="5"):
    return Composition(spec).values("", completion, reference, tokens)


@pytest.mark.parametrize(
    ("right", "ends"), [(True, (1.0, 0.55, 0.1, 0.1)), (False, (-1.0, -0.55, -0.1, -0.1))]
)
def test_the_cosine_goes_from_short_to_long(right, ends):
    reward = find_reward("cosine_length")
    got = [
        reward("", "", "", right=right, completion_tokens=n, max_length=8) for n in (0, 4, 8, 100)
    ]
    np.testing.assert_allclose(got, ends, rtol=1e-12)


def test_right_is_what_the_rewards_before_say():
    spec = ["exact_match", COSINE]
    assert values(spec, "5", 8) == [1.0, pytest.approx(0.1)]
    assert values(spec, "6", 8) == [0.0, pytest.approx(-0.1)]
    # The threshold is that of the reward that says it.
    low = [{"name": "exact_match", "right_at": 0.0}, COSINE]
    assert values(low, "6", 8) == [0.0, pytest.approx(0.1)]


def test_without_a_verdict_the_length_says_nothing(tmp_path):
    path = tmp_path / "given.py"
    path.write_text("def given(prompt, completion, reference): return None\n")
    assert values([f"{path}:given", COSINE], "5", 8) == [None, None]


def test_a_reward_that_reads_right_is_not_the_first():
    with pytest.raises(ValueError, match=r"before it say: put one there \(config.scoring.rewards"):
        Composition([COSINE, "exact_match"])


def test_a_users_reward_is_told_what_is_right(tmp_path):
    path = tmp_path / "own.py"
    path.write_text("def own(prompt, completion, reference, *, right, by=2.0): return by * right\n")
    with Scorer(
        ["exact_match", {"name": f"{path}:own", "options": {"by": 3.0}}], workers=1
    ) as all_:
        scores = all_.score(["", ""], ["5", "6"], ["5", "5"])
    np.testing.assert_array_equal(scores.parts["own"], [3.0, 0.0])


def test_characters_are_a_unit_by_name():
    reward = find_reward("cosine_length")
    given = dict(right=True, completion_tokens=1, max_length=8)
    assert reward("", "12345678", "", **given, unit="characters") == pytest.approx(0.1)
    with pytest.raises(ValueError, match="words"):
        reward("", "", "", **given, unit="words")


@pytest.mark.parametrize(
    ("text", "score"),
    [
        (r"<think> \boxed{5} </think> so", 1.0),
        (r"\boxed 7</think>", 1.0),
        (r"<think> no </think> \boxed{5}", 0.0),
        (r"\boxed{5}", 0.0),  # the thinking never ends
        (r"\boxed{ }</think>", 0.0),
        (r"\boxed{5</think>}", 0.0),
    ],
)
def test_the_box_stands_before_the_end_of_thinking(text, score):
    assert find_reward("boxed_in_thinking")("", text, "") == score
