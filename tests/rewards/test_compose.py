import pytest

from rljax.rewards.compose import Composition

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


def test_token_counts_reach_only_the_reward_that_wants_them():
    spec = [EXACT, {**LENGTH, "weight": 2.0}]
    assert Composition(spec).needs_token_counts and not Composition([EXACT]).needs_token_counts
    assert run(spec, "5", tokens=8) == ([1.0, -0.6], pytest.approx(-0.2))


def test_the_same_reward_twice_needs_labels():
    first, second = {**EXACT, "as": "strict"}, {**EXACT, "options": {"ignore_case": True}}
    composition = Composition([first, second])
    assert composition.labels == ("strict", "exact_match") and composition.primary == "strict"
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
