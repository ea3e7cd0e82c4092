"""Judges at an address: what they are asked, what their answers say, and what goes wrong."""

import json
import math
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from rljax.rewards.functions import find_reward
from rljax.rewards.golds import check_golds
from rljax.rewards.judges import client
from rljax.rewards.judges.answers import expected_score, last_score, verdict
from rljax.rewards.judges.client import JudgeError
from rljax.rewards.judges.questions import SCORE_QUESTION, filled
from rljax.rewards.pool import Scorer


def choice(text, *top):
    """An answer whose last token had these alternatives: (token, probability)."""
    content = [{"token": text, "logprob": 0.0, "top_logprobs": []}]
    if top:
        alternatives = [{"token": token, "logprob": math.log(p)} for token, p in top]
        content = [{"token": top[0][0], "logprob": 0.0, "top_logprobs": alternatives}]
    return {"message": {"content": text}, "logprobs": {"content": content}}


class Server:
    """A chat server whose answers are scripted: (status, body) or a function of the request."""

    def __init__(self):
        self.requests, self.keys, self.answers = [], [], []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.requests.append(request)
                outer.keys.append(self.headers.get("Authorization"))
                answer = outer.answers[min(len(outer.requests), len(outer.answers)) - 1]
                status, body = answer(request) if callable(answer) else answer
                content = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def says(self, *choices):
        usage = {"prompt_tokens": 100, "completion_tokens": 2}
        self.answers = [(200, {"choices": [one], "usage": usage}) for one in choices]


@pytest.fixture
def judge(monkeypatch):
    monkeypatch.setattr(client, "FIRST_WAIT", 0.01)
    made = Server()
    yield made
    made.server.shutdown()
    made.server.server_close()


def scored(judge, name="judge_score", completion="four", reference="4", **options):
    reward = find_reward(name)
    return reward("2 + 2?", completion, reference, address=judge.address, model="j", **options)


def test_an_expected_score_is_renormalised_over_the_scores():
    assert expected_score(choice("7", ("7", 1.0)), 0, 9) == 7.0
    found = expected_score(choice("7", ("7", 0.3), ("8", 0.1), ("the", 0.5), (" 7", 0.1)), 0, 9)
    assert found == pytest.approx(7.2)
    # Of a judge that reasons the last score counts, and what else might have stood there.
    long = choice("x", ("9", 0.5), ("5", 0.5))
    long["logprobs"]["content"] = [
        choice("3", ("3", 1.0))["logprobs"]["content"][0],
        {"token": " so", "logprob": 0.0, "top_logprobs": []},
        *long["logprobs"]["content"],
        {"token": ".", "logprob": 0.0, "top_logprobs": []},
    ]
    assert expected_score(long, 0, 9) == pytest.approx(7.0)


@pytest.mark.parametrize(
    "text, score", [("7", 7), ("1. good\nScore: 4.", 4), ("x3", 3), ("3.5", None), ("12", None)]
)
def test_the_last_whole_number_is_the_score(text, score):
    if score is None:
        with pytest.raises(JudgeError, match="no score from 0 to 9"):
            last_score(text, 0, 9)
    else:
        assert last_score(text, 0, 9) == score


def test_a_verdict_is_the_first_word():
    answers = ("A", "B")
    assert verdict(" (A) is better", answers) == 0 and verdict("B.", answers) == 1
    for text in ("", "Answer A"):
        with pytest.raises(JudgeError, match="begins with none of A, B"):
            verdict(text, answers)


def test_the_question_holds_the_texts_as_they_are():
    values = {"prompt": "{completion}", "completion": "{x} {prompt}", "rubric": "Be brief."}
    text = filled(SCORE_QUESTION, values | {"lowest": "0", "highest": "9"})
    assert "Request:\n{completion}\n" in text and "Answer:\n{x} {prompt}\n" in text
    assert "from 0, which\nis useless, to 9. Be brief." in text


def test_a_score_over_the_wire(judge, monkeypatch):
    judge.says(choice("7", ("7", 0.5), ("8", 0.5)))
    monkeypatch.setenv("A_KEY", "secret")
    assert scored(judge, rubric="Be kind.", key_variable="A_KEY") == pytest.approx(7.5)
    assert scored(judge, expected=False) == 7.0
    request = judge.requests[0]
    assert (request["model"], request["temperature"], request["max_tokens"]) == ("j", 0, 1)
    (message,) = request["messages"]
    assert all(text in message["content"] for text in ("2 + 2?", "four", "Be kind."))
    assert judge.keys == ["Bearer secret", None]
    with pytest.raises(JudgeError, match="variable 'NO_KEY' holds no key"):
        scored(judge, key_variable="NO_KEY")


def test_a_pair_is_asked_in_both_orders(judge):
    def by_place(request):
        return 200, {"choices": [choice("A")]}

    def prefers_four(request):
        text = request["messages"][0]["content"]
        return 200, {"choices": [choice("A" if text.index("four") < text.index("five") else "B")]}

    for answers, value in ((by_place, 0.5), (prefers_four, 1.0)):
        judge.answers = [answers]
        assert scored(judge, "judge_pair", reference="five") == value
    assert scored(judge, "judge_pair", completion="five", reference="four") == 0.0


def test_files_of_the_cache_never_share_a_name_while_they_are_written(tmp_path, monkeypatch):
    """Processes of two hosts may have the same id."""
    written, replace = [], Path.replace

    def noted(self: Path, target: Path) -> Path:
        written.append(self)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", noted)
    for _ in range(2):
        client._keep(tmp_path / "ab" / "abc.json", {"answer": 1})
    assert len(set(written)) == 2
    assert [path.name for path in (tmp_path / "ab").iterdir()] == ["abc.json"]


def test_answers_are_cached_and_accounted(judge, tmp_path):
    judge.says(choice("7"))
    options = dict(expected=False, cache=str(tmp_path / "c"), account=str(tmp_path / "a.jsonl"))
    options |= dict(input_price=2.0, output_price=5.0)
    assert [scored(judge, **options) for _ in range(2)] == [7.0, 7.0]
    assert len(judge.requests) == 1
    scored(judge, completion="five", **options)
    assert len(judge.requests) == 2
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [line["cached"] for line in lines] == [False, True, False]
    assert [line["cost"] for line in lines] == pytest.approx([2.1e-4, 0, 2.1e-4])
    assert lines[0]["input_tokens"] == 100 and lines[0]["output_tokens"] == 2


def test_a_busy_server_is_asked_again_and_one_that_refuses_is_not(judge):
    judge.says(choice("7"))
    judge.answers[:0] = [(429, b"slow down"), (503, b"")]
    assert scored(judge, expected=False, retries=2) == 7.0 and len(judge.requests) == 3
    judge.answers = [(404, b"no such model")]
    with pytest.raises(JudgeError, match="refuses: status 404, 'no such model'"):
        scored(judge)
    assert len(judge.requests) == 4


@pytest.mark.parametrize(
    "answer, message",
    [
        ((200, b"<html>"), "does not answer in JSON"),
        ((200, {"choices": []}), "which is no chat completion"),
        ((200, {"choices": [choice("very good")]}), "'very good', which has no score from 0 to 9"),
        ((200, {"choices": [{"message": {"content": "7"}}]}), "set expected=False"),
        ((500, b"broken"), "cannot be reached in 2 attempts of 20 s: status 500, 'broken'"),
    ],
)
def test_nonsense_is_an_error_that_says_what_was_answered(judge, answer, message):
    judge.answers = [answer]
    with pytest.raises(JudgeError, match=message):
        scored(judge, retries=1)


def test_a_run_with_a_judge_that_nobody_answers_for_is_refused_at_its_start():
    spec = {"name": "judge_score", "options": {"address": "http://127.0.0.1:9/v1", "model": "j"}}
    spec["options"] |= dict(retries=0, timeout_seconds=2.0)
    with Scorer([spec], workers=0, timeout_seconds=3.0) as scorer:
        with pytest.raises(
            ValueError, match="rewards fail on the first problem.*cannot be reached"
        ):
            scorer.try_first("2 + 2?", "4")


@pytest.mark.parametrize(
    "options, message",
    [
        ({"address": "localhost:1"}, "address must begin with http"),
        ({"highest": 10}, "one digit each where they are expected"),
        ({"lowest": 9}, "from lowest to highest"),
        ({"retries": -1}, "retries >= 0"),
        ({"timeout_seconds": 60.0}, "may take .* s with all attempts, and a sample has 70 s"),
    ],
)
def test_options_that_cannot_work(options, message):
    given = {"address": "http://127.0.0.1:9/v1", "model": "j", **options}
    with pytest.raises(ValueError, match=message):
        Scorer([{"name": "judge_score", "options": given}], workers=0, timeout_seconds=70.0)


def test_a_judge_is_trained_by_how_near_it_comes():
    reward = find_reward("score_agreement")
    assert reward("", "so <think>3</think> 7", "7") == 1.0
    assert reward("", "0", 9) == 0.0 and reward("", "4", 7) == pytest.approx(1 - 9 / 81)
    for text in ("", "ten", "10", "</think>"):
        assert reward("", text, "7") == -1.0
    assert reward("", "4", "5", lowest=1, highest=5) == pytest.approx(15 / 16)
    with pytest.raises(ValueError, match="from 0 to 9, got '12'"):
        reward("", "4", "12")
    with pytest.raises(ValueError, match="row 1.*a score is a whole number"):
        check_golds(["score_agreement"], ["7", "good"], lambda row: f"row {row}")
