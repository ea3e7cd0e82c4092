"""A judge that our own server serves."""

import math

import pytest

from rljax.rewards.judges.answers import expected_score
from rljax.rewards.judges.client import Judge, ask


def test_a_judge_of_ours_gives_what_an_expected_score_is_made_of(url, tmp_path):
    judge = Judge(f"{url}/v1", "tiny", account=str(tmp_path / "account.jsonl"), input_price=1.0)
    choice = ask(judge, [{"role": "user", "content": "hello"}])
    (token,) = choice["logprobs"]["content"]
    tops = token["top_logprobs"]
    assert len(tops) == 20 and tops[0]["token"] == token["token"]  # greedy
    # The same rule on the tokens of an untrained model: two of them as if they were scores.
    first, second = (math.exp(top["logprob"]) for top in tops[:2])
    for place, top in enumerate(tops):
        top["token"] = str(place + 1) if place < 2 else "other"
    token["token"] = "1"
    expected = (first + 2 * second) / (first + second)
    assert expected_score(choice, 1, 2) == pytest.approx(expected)
    assert '"output_tokens": 1' in (tmp_path / "account.jsonl").read_text()
