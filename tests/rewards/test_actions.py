"""Shop-R1's hierarchical reward, by hand."""

import json

import pytest

from rljax.rewards.functions import find_reward
from rljax.rewards.golds import check_golds

CLICK = {"type": "click", "name": "buy now"}
SUBMIT = {"type": "type_and_submit", "name": "search", "text": "red running shoes size 9"}


def said(rationale="so", **action):
    return json.dumps({"rationale": rationale, "action": action})


@pytest.mark.parametrize(
    "text, gold, value",
    [
        ("click", CLICK, 0.0),
        (json.dumps({"action": CLICK}), CLICK, 0.0),  # without a rationale
        (said(type="wait"), CLICK, 0.0),
        (said(type="terminate"), CLICK, 0.5),
        (said(**SUBMIT), CLICK, 0.5),
        (said(type="terminate"), {"type": "terminate"}, 0.8),
        (said(type="click"), CLICK, 0.8),
        (said(type="click", name="cart"), CLICK, 1.0),
        (said(type="click", name="Buy now!"), CLICK, 1001.0),
        ("a thought </think>" + said(**CLICK), json.dumps(CLICK), 1001.0),
        (said(type="type_and_submit", name="search"), SUBMIT, 1.0),
        (said(**SUBMIT | {"text": "shoes"}), SUBMIT, 1.1),  # ROUGE-L 1/3 is below the threshold
        (said(**SUBMIT), SUBMIT, 1001.1),
    ],
)
def test_each_level(text, gold, value):
    assert find_reward("shop_action")("", text, gold) == pytest.approx(value)


def test_the_threshold_and_the_scale_are_options():
    text = said(**SUBMIT | {"text": "red running shoes"})  # 3 of 3 and 3 of 5 words: F is 3/4
    options = {"difficulty_scale": 8.0}
    assert find_reward("shop_action")("", text, SUBMIT, **options) == pytest.approx(1.1 + 6)
    options["threshold"] = 0.76
    assert find_reward("shop_action")("", text, SUBMIT, **options) == pytest.approx(1.1)


def test_a_gold_action_that_cannot_be_right_is_refused():
    for gold in ({"type": "wait"}, {"type": "click"}, {"type": "click", "name": ""}, "click"):
        with pytest.raises(ValueError, match="row 1: the reward 'shop_action' cannot read"):
            check_golds(["shop_action"], [SUBMIT, gold], lambda row: f"row {row}")
