"""The environments that are provided: what they answer, and what they give."""

import json
import sys

import pytest

from rljax.environments import stepping
from rljax.environments.dictionary import Dictionary
from rljax.environments.environment import start_of, turn_of
from rljax.environments.guess import Guess
from rljax.environments.lookup import Lookup, f_score
from rljax.environments.players import opening_of, roles_of
from rljax.environments.retries import Retries
from rljax.environments.table import ENVIRONMENTS, find_environment
from rljax.environments.tool_use import ToolUse
from rljax.rewards import functions


def played(environment, record, replies):
    """The states, observations and rewards of an episode."""
    start = start_of(environment, record, "row 1")
    state, turns = json.loads(json.dumps(start.state)), []
    for reply in replies:
        state, turn = turn_of(environment, state, reply)
        turns.append(turn)
        if turn.done:
            break
    return start, turns


def said(turn):
    return [message["content"] for message in turn.observation]


def test_guess_says_higher_and_lower():
    _, turns = played(Guess(), {"secret": 7}, ["5", "is it 9?", "hm", "7"])
    assert [said(turn) for turn in turns] == [["higher"], ["lower"], ["no number"], []]
    assert [turn.reward for turn in turns] == [0, 0, 0, 1] and turns[-1].done
    _, turns = played(Guess(tries=1), {"secret": 7}, ["5", "7"])
    assert len(turns) == 1 and turns[0] == ([], 0.0, True)


@pytest.mark.parametrize("secret", [1, 4, 9, 14, 20])
def test_a_search_by_halves_is_always_right(secret):
    guess = Guess()
    shown = guess.demonstration({"secret": secret})
    replies = [m["content"] for m in shown if m["role"] == "assistant"]
    _, turns = played(guess, {"secret": secret}, replies)
    assert turns[-1].reward == 1 and len(turns) == len(replies)


def test_the_calculator_answers_calls_and_ends_without_one():
    call = '<tool_call>{"name": "calculate", "arguments": {"expression": "%s"}}</tool_call>'
    environment = find_environment("calculator", {"call_reward": 0.5, "error_reward": -1.0})
    replies = [call % "2*(3+4)", call % "1/0", "<tool_call>?</tool_call>", "14"]
    start, turns = played(environment, {"question": "2*(3+4)?"}, replies)
    assert start.messages == [{"role": "user", "content": "2*(3+4)?"}]
    assert [tool["function"]["name"] for tool in start.tools] == ["calculate"]
    assert said(turns[0]) == ["14"]
    assert said(turns[1])[0].startswith("Error: ValueError: '1/0' has no value")
    assert said(turns[2])[0].startswith("Error: the call is no JSON")
    assert [turn.reward for turn in turns] == [0.5, -1.0, -1.0, 0.0] and turns[-1].done


def test_the_dictionary_follows_its_sheet():
    """Malformed query: empty result, and on; no answer: no reward; the answer span counts alone."""
    environment = Dictionary(words=2, vocabulary=10, known_share=0.8)
    known, unknown = list(environment.cipher)[0], list(environment.cipher)[-1]
    gold = f"{environment.cipher[known]} {environment.cipher[unknown]}"
    record = {"prompt": f"{known} {unknown}", "reference": gold}
    replies = ["<query>", f"<query>{known} {unknown}</query>", f"x <answer>{gold}</answer> y"]
    _, turns = played(environment, record, replies)
    found = f"{known}={environment.cipher[known]}"
    assert [said(turn) for turn in turns] == [[""], [found], []] and turns[-1].reward == 1
    half = f"<answer>{environment.cipher[known]} bobo</answer>"
    assert played(environment, record, [half])[1][-1].reward == 0.5
    exact = Dictionary(words=2, vocabulary=10, reward="exact")
    assert played(exact, record, [half])[1][-1].reward == 0
    assert played(environment, record, [gold] * 3)[1][-1] == ([], 0.0, True)
    assert len(environment.known) == 8


def test_a_query_of_many_words_is_cut_at_five():
    environment = Dictionary(words=2, vocabulary=10, known_share=1)
    words = list(environment.cipher)[:7]
    _, turns = played(environment, environment.record(0), [f"<query>{' '.join(words)}</query>"])
    assert said(turns[0]) == [" ".join(f"{w}={environment.cipher[w]}" for w in words[:5])]


def test_demonstrations_of_the_dictionary_are_right():
    environment = Dictionary(words=3)
    for seed in range(20):
        record = environment.record(seed)
        shown = environment.demonstration(record)
        replies = [m["content"] for m in shown if m["role"] == "assistant"]
        assert played(environment, record, replies)[1][-1].reward == 1


def test_the_table_gives_a_soft_f_score():
    """WebLeaper: the harmonic mean at w = 1, recall as w grows, 0 where nothing is right."""
    assert f_score({"a", "b"}, {"a"}) == pytest.approx(2 / 3)
    assert f_score({"a", "b"}, {"a"}, 1000.0) == pytest.approx(1, abs=1e-5)
    assert f_score(set(), {"a"}) == 0 and f_score({"b"}, {"a"}) == 0
    environment = Lookup(rows=5, tries=4)
    record = environment.record(0)
    names = [name for name, colour in record["table"].items() if colour == record["colour"]]
    first = next(iter(record["table"]))
    replies = ["list(0)", f"look({first}) look(nobody)", f"answer: {', '.join(names)}"]
    _, turns = played(environment, record, replies)
    assert said(turns[0]) == [", ".join(list(record["table"])[:4])]
    assert said(turns[1]) == [f"{first}: {record['table'][first]}; nobody: not there"]
    assert turns[2].reward == 1
    twice = ", ".join([*names, names[0]])  # a set: what is said twice counts once
    assert played(environment, record, [f"answer: {twice}"])[1][-1].reward == 1
    assert played(environment, record, ["x"] * 9)[1][-1] == ([], 0.0, True)


def test_retries_of_a_reward():
    environment = Retries(reward="exact_match", tries=2, discount=0.5)
    record = {"prompt": "1+1=", "reference": "2"}
    assert [t.reward for t in played(environment, record, ["3", "2"])[1]] == [0, 0.5]
    assert [t.reward for t in played(environment, record, ["2"])[1]] == [1]
    _, turns = played(environment, record, ["3", "3"])
    assert said(turns[0]) == ["That is not right. Try again."] and turns[1].done


def test_what_the_reward_of_retries_needs_is_there_before_the_first_step(monkeypatch):
    monkeypatch.setitem(functions.WARM_IMPORTS, "exact_match", "xml.sax.saxutils")
    monkeypatch.delitem(sys.modules, "xml.sax.saxutils", raising=False)
    name, options = "retries", {"reward": "exact_match"}
    find_environment(name, options)
    assert "xml.sax.saxutils" not in sys.modules  # not where a config is read
    stepping.prepare(name, options)
    assert "xml.sax.saxutils" in sys.modules


def test_programs_are_told_which_test_failed():
    environment = Retries(reward="python_tests", options={"feedback": True}, tries=2)
    record = {"prompt": "add", "reference": ["assert add(1, 2) == 3"]}
    _, turns = played(environment, record, ["```python\ndef add(a, b):\n    return a\n```"])
    assert not turns[0].done
    assert said(turns[0])[0].startswith("A test of 1 failed: ")
    assert said(turns[0])[0].endswith("\nThat is not right. Try again.")


@pytest.mark.parametrize("name", sorted(ENVIRONMENTS))
def test_made_problems_are_those_of_their_seed(name):
    environment = find_environment(name, {})
    if not hasattr(environment, "record"):
        pytest.skip("it reads problems of a file")
    records = [environment.record(seed) for seed in range(30)]
    assert records == [environment.record(seed) for seed in range(30)]
    assert len({json.dumps(record) for record in records}) > 5
    begin = opening_of if roles_of(environment) else start_of
    begin(environment, {"reference": None, **records[0]}, "row 1")


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        ("guess", {"largest": 0}, "largest >= 1"),
        ("dictionary", {"known_share": 2}, r"known_share must be in \[0, 1\], got 2"),
        ("dictionary", {"reward": "bleu"}, "reward must be 'words' or 'exact'"),
        ("lookup", {"rows": 0}, "rows in"),
        ("retries", {"reward": "environment"}, "reads episodes"),
        ("retries", {"tries": 0}, "tries >= 1"),
        ("calculator", {"call_format": "herms"}, "herms.*hermes"),
        ("guess", {"larges": 3}, "does not take these options: .*larges"),
        ("gues", {}, "environment 'gues'.*guess"),
    ],
)
def test_wrong_options_are_refused(name, options, match):
    with pytest.raises(ValueError, match=match):
        find_environment(name, options)


def test_whatever_a_model_writes_is_answered():
    """Values that JSON has not, bottomless objects, numbers of thousands of digits."""

    def double(x: int) -> int:
        """Doubles."""
        return 2 * x

    environment = ToolUse([double], call_format="pythonic")
    for value in ("{1, 2}", "b'a'", "1j", "...", "10 ** 9"):
        _, turns = played(environment, {"prompt": "?"}, [f"[double(x={value})]"])
        assert said(turns[0])[0].startswith("Error: ")
    deep = ToolUse([double], call_format="llama3")
    _, turns = played(deep, {"prompt": "?"}, ['{"name": "double", "arguments":' * 50_000])
    assert said(turns[0])[0].startswith("Error: the call is no JSON")
    _, turns = played(deep, {"prompt": "?"}, ['{"name": "Bob", "age": 3}'])
    assert turns[0].done  # an answer that is JSON
    record = Lookup().record(0)
    assert said(played(Lookup(), record, [f"list({'9' * 5000})"])[1][0])
