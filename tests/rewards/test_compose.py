import numpy as np
import pytest

from rljax.rewards.compose import LONGEST_FEEDBACK, Composition, right_score
from rljax.rewards.member import parse_rewards
from rljax.rewards.pool import Scorer
from rljax.training.collect.rollouts import join_scores, take_scores

EXACT, FORMAT = {"name": "exact_match"}, {"name": "format"}
LENGTH = {"name": "length", "options": {"max_tokens": 10, "cache_tokens": 5}}


def run(spec, completion, reference="5", tokens=None):
    composition = Composition(spec)
    values = composition.values("", completion, reference, tokens)
    return values, composition.total(values)


def test_weights_and_parts():
    spec = [{**EXACT, "options": {"tag": "answer"}}, {**FORMAT, "weight": 0.5}]
    assert run(spec, "<answer>5</answer>") == ([1.0, 1.0], 1.5)
    assert run(spec, "<answer>4</answer>") == ([0.0, 1.0], 0.5)
    assert run(spec, "<answer>5</answer>.") == ([1.0, 0.0], 1.0)


def test_a_gate_closes_the_total_but_keeps_the_value():
    spec = [{**EXACT, "options": {"tag": "answer"}}, {**FORMAT, "gate": "exact_match"}]
    assert run(spec, "<answer>5</answer>") == ([1.0, 1.0], 2.0)
    assert run(spec, "<answer>4</answer>") == ([0.0, 1.0], 0.0)


APPLIES = """
def given(prompt, completion, reference, *, by=1.0): return None if completion == "?" else by
"""


@pytest.fixture
def given(tmp_path):
    path = tmp_path / "given.py"
    path.write_text(APPLIES)
    return {"name": f"{path}:given"}


def test_a_part_that_does_not_apply_is_left_out_of_the_sum(given):
    spec = [given, {**EXACT, "weight": 0.5}]
    assert run(spec, "5") == ([1.0, 1.0], 1.5)
    assert run(spec, "?", "?") == ([None, 1.0], 0.5)
    assert run([given], "?") == ([None], None)


def test_a_part_whose_gate_does_not_apply_does_not_apply_either(given):
    spec = [given, {**EXACT, "gate": "given"}]
    assert run(spec, "?", "?") == ([None, 1.0], None)
    closed = [{**given, "right_at": 2.0}, {**EXACT, "gate": "given"}]
    assert run(closed, "5") == ([1.0, 1.0], 1.0)
    opened = [{**given, "right_at": 2.0, "options": {"by": 2.0}}, {**EXACT, "gate": "given"}]
    assert run(opened, "5") == ([2.0, 1.0], 3.0)


def test_right_is_what_the_first_reward_that_applies_says(given):
    composition = Composition([{**given, "right_at": 0.3}, EXACT])
    assert composition.is_right([0.1 + 0.2, 0.0])  # 0.30000000000000004 in float64
    assert not composition.is_right([0.2999, 1.0])
    assert composition.is_right([None, 1.0]) and not composition.is_right([None, 0.0])
    assert not composition.is_right([None, None])


def test_thresholds_of_rewards_that_give_two_points():
    spec = [dict(name="math_string"), dict(name="tagged_correctness"), EXACT, dict(name="format")]
    assert [member.right_at for member in parse_rewards(spec)] == [2.0, 2.0, 1.0, 1.0]
    assert not any(member.assumed for member in parse_rewards(spec))
    assert right_score(spec) == 2.0 and right_score([{**EXACT, "weight": 0.5}]) == 0.5
    assert right_score([{**EXACT, "weight": 0.0}]) == 1.0


def test_the_threshold_of_a_users_reward_is_assumed_unless_given(given):
    assert parse_rewards([given])[0].assumed
    assert not parse_rewards([{**given, "right_at": 1.0}])[0].assumed


def test_token_counts_reach_only_the_reward_that_wants_them():
    spec = [EXACT, {**LENGTH, "weight": 2.0}]
    assert Composition(spec).needs_token_counts and not Composition([EXACT]).needs_token_counts
    assert run(spec, "5", tokens=8) == ([1.0, -0.6], pytest.approx(-0.2))


def test_the_same_reward_twice_needs_labels():
    first, second = {**EXACT, "as": "strict"}, {**EXACT, "options": {"ignore_case": True}}
    composition = Composition([first, second])
    assert composition.labels == ("strict", "exact_match") and composition.first.label == "strict"
    with pytest.raises(ValueError, match="Two rewards are called 'exact_match'"):
        Composition([EXACT, second])


def test_a_config_mapping_is_accepted():
    config_dict = pytest.importorskip("ml_collections.config_dict")
    assert Composition([config_dict.ConfigDict(LENGTH)]).labels == ("length",)


@pytest.mark.parametrize(
    "spec, message",
    [
        ([], "No reward given"),
        ([{"weight": 1}], "needs a name"),
        ([{"name": "exactmatch"}], "Unknown reward 'exactmatch'.*Did you mean 'exact_match'"),
        ([{**EXACT, "wight": 1}], "Unknown reward field 'wight'.*Did you mean 'weight'"),
        ([5], "a name or a mapping with the keys name, .*, got 5"),
        ([{**EXACT, "options": 5}], "'options' must be a mapping, got 5"),
        ([{**EXACT, "gate": 5}], "'gate' must be a str, got 5"),
        ([{**EXACT, "right_at": "2"}], "needs a number as right_at"),
        ([{**EXACT, "weight": "1"}], "needs a number as weight"),
        ([{**EXACT, "weight": float("nan")}], "finite weight"),
        ([{**EXACT, "gate": "fromat"}, FORMAT], "Unknown gate .*'fromat'.*mean 'format'"),
        ([{**EXACT, "gate": "exact_match"}], "cannot be its own gate"),
        (
            [{**EXACT, "options": {"tga": "x"}}],
            r"Unknown option of reward 'exact_match' 'tga'.*config.scoring.rewards\[exact_match\]"
            r".options.*Did you mean 'tag'",
        ),
        ([{"name": "length", "options": {"max_tokens": 3}}], "needs the option 'cache_tokens'"),
        (
            [{**LENGTH, "options": {**LENGTH["options"], "completion_tokens": 1}}],
            "Unknown option of reward 'length' 'completion_tokens'",
        ),
    ],
)
def test_bad_compositions(spec, message):
    with pytest.raises(ValueError, match=message):
        Composition(spec)


SAYS = """
TEXTS = {"": None, "long": "x" * 5000}
def told(prompt, completion, reference): return 0.5, TEXTS.get(completion, "no " + completion)
def odd(prompt, completion, reference): return 0.5, 3
"""


def test_what_a_reward_says_of_a_sample_stands_beside_its_number(tmp_path):
    path = tmp_path / "says.py"
    path.write_text(SAYS)
    told, odd = ({"name": f"{path}:{name}"} for name in ("told", "odd"))
    both = [told, {**told, "as": "again"}, EXACT]
    composition = Composition(both)
    assert composition.judge("", "5", "5", None) == ([0.5, 0.5, 1.0], "no 5\nno 5")
    assert composition.judge("", "", "5", None) == ([0.5, 0.5, 0.0], "")
    assert len(Composition([told]).judge("", "long", "5", None)[1]) == LONGEST_FEEDBACK
    with Scorer(both, workers=0) as scorer:
        scores = scorer.score(["p"] * 2, ["4", ""], ["5"] * 2)
    assert scores.feedback.tolist() == ["no 4\nno 4", ""] and scores.total.tolist() == [1.0, 1.0]
    joined = join_scores([scores, take_scores(scores, np.array([1, 0]))])
    assert joined.feedback.tolist() == ["no 4\nno 4", "", "", "no 4\nno 4"]
    with pytest.raises(ValueError, match="'odd' returned .*, a text or None"):
        run([odd], "5")


def test_a_value_below_its_threshold_counts_as_0_and_others_within_the_clip(given):
    member = {**given, "threshold": 0.5, "clip": (-1, 2), "weight": 3.0}
    for value, worth in ((0.4, 0.0), (0.5, 1.5), (5.0, 6.0), (-7.0, 0.0)):
        spec = [{**member, "options": {"by": value}}]
        assert run(spec, "x") == ([value], worth)  # the value that is logged is the reward's own
    only_clipped = [{**given, "clip": [-1, 2], "options": {"by": -7.0}}]
    assert run(only_clipped, "x") == ([-7.0], -1.0)
    assert (
        Composition(Composition([member]).portable())
        .members[0]
        ._replace(name=member["name"], assumed=True)
        == (Composition([member]).members[0])
    )


def test_several_gates_must_all_be_open(given):
    spec = [
        {**given, "as": "a", "weight": 0.0},
        {**given, "as": "b", "weight": 0.0, "options": {"by": 0.5}},
        {**EXACT, "gate": "a, b"},
    ]
    assert run(spec, "5")[1] == 0.0
    spec[1]["right_at"] = 0.5
    assert run(spec, "5")[1] == 1.0


def test_where_chooses_rewards_by_the_kind_of_problem(given):
    spec = [
        {**EXACT, "where": {"domain": ("math", "logic")}},
        {**given, "where": {"domain": "chat"}, "weight": 0.5},
    ]
    for domain, text, values, worth, right in (
        ("math", "5", [1.0, None], 1.0, True),
        ("logic", "4", [0.0, None], 0.0, False),
        ("chat", "4", [None, 1.0], 0.5, True),
        ("code", "4", [None, None], None, False),
    ):
        reference = {"answer": "5", "domain": domain}
        assert run(spec, text, reference) == (values, worth)
        assert Composition(spec).is_right(values) is right
    message = r"by the field 'domain' .* has answer \(config.scoring.rewards\[exact_match\].where"
    with pytest.raises(ValueError, match=message):
        run(spec, "5", {"answer": "5"})


def test_constraints_are_no_summands_and_all_that_apply_must_hold(given):
    spec = [
        {**FORMAT, "constraint": True},
        {**EXACT, "options": {"tag": "answer"}, "weight": 2.0},
        {**given, "constraint": True, "where": {"domain": "chat"}, "options": {"by": 0.0}},
    ]
    composition = Composition(spec)
    assert (
        composition.constraints == ("format", "given") and composition.first.label == "exact_match"
    )
    for domain, text, worth, satisfied in (
        ("math", "<answer>5</answer>", 2.0, True),
        ("math", "<answer>5</answer>.", 2.0, False),
        ("math", "<answer>4</answer>", 0.0, True),
        ("chat", "<answer>5</answer>", 2.0, False),
    ):
        values = composition.values("", text, {"answer": "5", "domain": domain}, None)
        assert composition.total(values) == worth and composition.satisfies(values) is satisfied
        assert composition.is_right(values) is (worth == 2.0)
    assert right_score(spec) == 2.0
    with Scorer(spec, workers=0) as scorer:
        reference = {"answer": "5", "domain": "math"}
        texts = ["<answer>5</answer>", "5"]
        scores = scorer.score(["p"] * 2, texts, [reference] * 2)
        assert scores.satisfied.tolist() == [True, False]
        assert take_scores(scores, np.array([1])).satisfied.tolist() == [False]
        broken = scorer.score(["p"] * 2, texts, [reference, {}])
        assert broken.failed.tolist() == [False, True] == (~broken.satisfied).tolist()
    with Scorer([EXACT], workers=0) as scorer:
        assert scorer.score(["p"], ["5"], ["5"]).satisfied is None
    with pytest.raises(ValueError, match="All of the rewards format are constraints or held out"):
        Composition(spec[:1])


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"clip": 3}, "the least and the largest value as clip, got 3"),
        ({"clip": (2, 1)}, "clip must ascend"),
        ({"threshold": "x"}, "needs a number as threshold"),
        ({"where": "math"}, "'where' must be a mapping, got 'math'"),
        ({"constraint": 1}, "'constraint' must be a bool, got 1"),
        ({"heldout_of": "fromat"}, "Unknown heldout_of .*'fromat'.*mean 'format'"),
        ({"heldout_of": "format", "constraint": True}, "neither may be a constraint"),
        ({"gate": "format, fromat"}, "Unknown gate .*'fromat'.*mean 'format'"),
    ],
)
def test_bad_fields_of_a_member(fields, message):
    with pytest.raises(ValueError, match=message):
        Composition([{**EXACT, **fields}, FORMAT])


def test_a_held_out_reward_is_logged_and_nothing_else():
    held = {"name": "format", "heldout_of": "exact_match"}
    composition = Composition([held, EXACT])
    values = composition.values("", "<answer>5</answer>", "5", None)
    assert values == [1.0, 0.0] and composition.total(values) == 0.0
    assert composition.weights == (1.0,) and composition.components(values) == [0.0]
    assert not composition.is_right(values) and composition.constraints == ()
    with pytest.raises(ValueError, match="gate 'format', which is held out: training would see it"):
        Composition([held, {**EXACT, "gate": "format"}])
