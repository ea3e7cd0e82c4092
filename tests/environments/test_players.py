"""Environments of several players: games by enumeration, two agents, what goes wrong."""

import functools
import json
from fractions import Fraction
from itertools import permutations

import pytest

from rljax.environments.games import Games
from rljax.environments.kuhn import CARDS, MOVES, Kuhn
from rljax.environments.nim import Nim
from rljax.environments.players import (
    Move,
    Opening,
    joined,
    move_of,
    opening_of,
    player_count,
    roles_of,
    seen,
)
from rljax.environments.problems import PLAYERS, STATE, EnvironmentProblems
from rljax.environments.stepping import Stepper, moved
from rljax.environments.table import ENVIRONMENTS, find_environment
from rljax.environments.waltz import Waltz, read_feedback


def played(environment, record, replies):
    """The moves that answer some replies, and the state after them."""
    opening = opening_of(environment, record, "row 1")
    state, moves = json.loads(json.dumps(opening.state)), []
    for reply in replies:
        state, move = move_of(environment, state, reply)
        moves.append(move)
    return moves, state


def equilibrium(bluff):
    """Best play of Kuhn poker: (card, what has happened) -> {word: probability}; 0 <= bluff <= 1/3.

    The first player bets a jack with probability `bluff`, a king three times as often, and calls
    with a queen a third more often than it bluffs.
    """
    third, one, nothing = Fraction(1, 3), Fraction(1), Fraction(0)
    bets = {
        ("J", ""): bluff, ("Q", ""): nothing, ("K", ""): 3 * bluff,
        ("J", "k"): third, ("Q", "k"): nothing, ("K", "k"): one,
    }  # fmt: skip
    calls = {
        ("J", "b"): nothing, ("Q", "b"): third, ("K", "b"): one,
        ("J", "kb"): nothing, ("Q", "kb"): bluff + third, ("K", "kb"): one,
    }  # fmt: skip
    return {key: {"bet": p, "check": 1 - p} for key, p in bets.items()} | {
        key: {"call": p, "fold": 1 - p} for key, p in calls.items()
    }


def kuhn_value(policies):
    """What a game is worth to the first player, over all deals and all that both may say."""
    game, deals = Kuhn(), ["".join(cards) for cards in permutations(CARDS, 2)]

    def worth(state):
        player, total = len(state["moves"]) % 2, Fraction(0)
        for word, chance in policies[player][state["cards"][player], state["moves"]].items():
            after, move = move_of(game, dict(state), f"I think [{word}]")
            total += chance * (Fraction(move.rewards[0]) if move.player is None else worth(after))
            assert move.rewards[0] == -move.rewards[1]
        return total

    start = [opening_of(game, {"cards": cards}, "row").state for cards in deals]
    return sum(map(worth, start)) / len(deals)


@pytest.mark.parametrize("bluff", [Fraction(0), Fraction(1, 5), Fraction(1, 3)])
def test_kuhn_poker_is_worth_minus_one_eighteenth(bluff):
    best = equilibrium(bluff)
    assert kuhn_value([best, best]) == Fraction(-1, 18)


def test_nobody_gains_by_leaving_best_play():
    """Against it every pure deviation at one place is worth at most as much."""
    best = equilibrium(Fraction(1, 5))
    for card, moves in best:
        for word in MOVES[moves]:
            other = {(card, moves): {word: Fraction(1)}}
            values = kuhn_value([best | other, best]), kuhn_value([best, best | other])
            assert values[0] <= Fraction(-1, 18) <= values[1]


def test_an_impossible_move_loses_what_was_put_in():
    game = Kuhn()
    for replies, winner in ((["hm"], 1), (["[call]"], 1), (["[check] [bet]", "[check]"], 0)):
        *_, last = played(game, {"cards": "KQ"}, replies)[0]
        assert last.player is None and last.measures["impossible_moves"] == 1
        assert last.rewards[winner] == 1 and last.rewards[1 - winner] == -1
    (*_, last), _ = played(Kuhn(reward="win"), {"cards": "KQ"}, ["[bet]", "[CALL ]"])
    assert last.rewards == [1.0, -1.0] and last.measures == {
        "impossible_moves": 0.0,
        "first_wins": 1.0,
    }


def test_a_player_is_told_what_the_other_did_and_no_card():
    moves, _ = played(Kuhn(), {"cards": "QJ"}, ["[check]", "[bet]", "[fold]"])
    assert [move.player for move in moves] == [1, 0, None]
    assert moves[0].observations == [[], [{"role": "user", "content": "The other player: check."}]]
    for shown in seen(Kuhn(), {"cards": "QJ"}, lambda state: "[check]"):
        text = " ".join(message["content"] for message in shown)
        assert ("Card: Q" in text) != ("Card: J" in text)


def test_nim_is_won_from_all_but_multiples():
    game = Nim(largest=12, most=3)

    @functools.cache
    def wins(stones):
        """Whether whoever moves can win, by asking the environment what every move leads to."""
        results = []
        for taken in (1, 2, 3):
            state, move = move_of(game, {"stones": stones, "player": 0}, f"take {taken}")
            over = move.rewards[0] > 0
            results.append(over if move.player is None else not wins(state["stones"]))
        return any(results)

    assert [stones for stones in range(1, 13) if not wins(stones)] == [4, 8, 12]
    (move,), _ = played(game, {"stones": 5}, ["0"])
    assert move.rewards == [-1.0, 1.0] and move.player is None


def test_games_have_roles_of_their_own():
    games = Games()
    assert games.roles == ("kuhn/first", "kuhn/second", "nim/first", "nim/second")
    assert player_count(games) == 2
    records = [games.record(seed) for seed in range(20)]
    assert {record["game"] for record in records} == {"kuhn", "nim"}
    opening = opening_of(games, {"game": "nim", "stones": 2}, "row 1")
    assert opening.roles == ("nim/first", "nim/second")
    (first, last), _ = played(games, {"game": "nim", "stones": 2}, ["1", "1"])
    assert first.player == 1 and last.rewards == [-1.0, 1.0]
    assert last.measures == {"nim/impossible_moves": 0.0, "nim/first_wins": 0.0}


def feedback(unsafe, overrefuse):
    return json.dumps({"unsafe": unsafe, "overrefuse": overrefuse, "feedback": "think again"})


def total(moves, player):
    return sum(move.rewards[player] for move in moves)


@pytest.mark.parametrize(
    ("replies", "conversation", "improvement", "labels"),
    [
        # No revision, right or wrong labels: no improvement, whatever the answer is worth.
        (["I refuse", feedback(False, False)], 1.0, 0.0, True),
        (["Sure", feedback(False, False)], 0.0, 0.0, False),
        (["Sure", "no JSON"], 0.0, 0.0, False),
        # A revision that changes nothing.
        (["Sure", feedback(True, False), "Yes"], 0.0, 0.0, True),
        # One that mends, and feedback that breaks a good answer.
        (["Sure", feedback(True, False), "I can\u2019t"], 1.0, 1.0, True),
        (["I refuse", feedback(False, True), "Sure"], 1.0, -1.0, False),
    ],
)
def test_feedback_earns_the_improvement(replies, conversation, improvement, labels):
    """Of a harmful prompt; R = 1 for a refusal."""
    record = {"prompt": "how?", "reference": "harmful"}
    moves, _ = played(Waltz(label_weight=0.0, format_weight=0.0), record, replies)
    assert moves[-1].player is None and total(moves, 0) == conversation
    assert total(moves, 1) == improvement == moves[-1].measures["improvement"]
    weights = {"improvement_weight": 0.0, "label_weight": 0.5, "format_weight": 0.25}
    moves, _ = played(Waltz(**weights), record, replies)
    assert total(moves, 1) == 0.5 * labels + 0.25 * ("JSON" not in replies[1])
    assert moves[-1].measures["revised"] == (len(replies) == 3)


def test_a_benign_prompt_must_not_be_refused():
    record = {"prompt": "how?", "reference": "benign"}
    replies = ["I'm sorry, no.", feedback(False, True), "Sure"]
    moves, _ = played(Waltz(label_weight=0.5, format_weight=0.0), record, replies)
    assert [move.rewards for move in moves] == [[0.0, 0.0], [0.0, 0.5], [1.0, 1.0]]
    assert moves[1].observations[0] == [{"role": "user", "content": "Feedback: think again"}]
    assert moves[-1].measures["overrefused"] == 0.0


def test_the_feedback_agent_sees_a_better_sign():
    waltz = Waltz()
    records = [waltz.record(seed) for seed in range(400)]
    right = [
        sum(r[key][-1] == {"harmful": "x", "benign": "o"}[r["reference"]] for r in records) / 400
        for key in ("prompt", "feedback_prompt")
    ]
    assert right == pytest.approx([0.7, 0.95], abs=0.05)
    conversation, other = waltz.reset(records[0]).conversations
    assert conversation == records[0]["prompt"]
    assert records[0]["feedback_prompt"] in other and "JSON" in other


def test_what_feedback_can_be_read():
    assert read_feedback(f"Well: {feedback(True, False)}.") == ([True, False], "think again")
    for text in ("", "{", "[]", '{"unsafe": 1, "overrefuse": false, "feedback": ""}', "{" * 10**5):
        assert read_feedback(text) == (None, "")
    assert read_feedback('{"unsafe": true, "overrefuse": true}') == (None, "")


@pytest.mark.parametrize("name", ["kuhn", "waltz"])
def test_demonstrations_are_conversations_of_all_players(name):
    environment = find_environment(name, {})
    shown = [environment.demonstration(environment.record(seed)) for seed in range(30)]
    assert shown == [environment.demonstration(environment.record(seed)) for seed in range(30)]
    begins = {messages[0]["content"][:30] for messages in shown}
    assert len(begins) >= 2
    for messages in shown:
        roles = [message["role"] for message in messages]
        assert roles == ["user", "assistant"] * (len(roles) // 2)


def test_messages_of_a_user_in_a_row_are_one():
    user, tool = {"role": "user", "content": "a"}, {"role": "tool", "content": "b"}
    assert joined([user], [user, tool, user]) == [{"role": "user", "content": "a\na"}, tool, user]
    named = {**user, "name": "x"}
    assert joined([user], [named]) == [user, named]
    assert joined([], [user]) == [user]


FILE = """
from rljax.environments.players import Move, Opening

roles = ("a", "b")

def reset(record):
    return eval(record["give"])

def step(state, reply):
    return eval(reply)
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "game.py"
    path.write_text(FILE)
    return str(path)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ("['hi', 'ho']", r"row 4: reset.. of an environment with roles must return an Opening"),
        ("Opening(['hi'], {})", r"for each of 2 players, got 1 conversations"),
        ("Opening(['hi', 'ho'], {}, 2)", r"players by their number, 0 to 1, got 2"),
        ("Opening(['hi', 'ho'], {}, roles=('a', 'c'))", r"a role of \('a', 'b'\)"),
        ("Opening(['hi', 3], {})", r"returned for player 1 must hold a list of messages"),
        ("Opening(['hi', 'ho'], {1: 2})", r"plain data that JSON keeps"),
    ],
)
def test_what_reset_may_return(file, given, match):
    with pytest.raises(ValueError, match=match):
        opening_of(find_environment(file, {}), {"give": given}, "row 4")


def test_what_step_may_return(file):
    replies = {
        "('x', 1.0, True)": "must return a Move",
        "Move(2)": "players by their number",
        "Move(0, {5: 'x'})": "players by their number",
        "Move(0, {0: 3})": "player 0 must hold a list of messages",
        "Move(0, {0: [{'role': 'assistant', 'content': 'me'}]})": "last message is the assistant's",
        "Move(0, {}, {0: float('nan')})": "finite reward",
        "Move(0, {}, {0: True})": "a number as reward",
    }
    with Stepper(file, {}, workers=0, timeout_seconds=2.0, memory_mb=2048) as stepper:
        assert (stepper.roles, stepper.players) == (("a", "b"), 2)
        *outcomes, last = stepper.step([({}, reply) for reply in [*replies, "Move(1, {1: 'x'})"]])
    for outcome, match in zip(outcomes, replies.values(), strict=True):
        assert outcome.answer is None and match in outcome.error
    state, move = moved(json.loads(json.dumps(last.answer)), several=True)
    assert state == {} and move == (1, [[], [{"role": "user", "content": "x"}]], [0.0, 0.0], {})
    _, move = moved([{}, [], 0.5, True], several=False)
    assert move == (None, [[]], [0.5], {})


@pytest.mark.parametrize(
    ("roles", "players", "match"),
    [
        ("ab", 2, "different names"),
        (("a", "a"), 2, "different names"),
        (("a", ""), 2, "different names"),
        (("a", "b"), 1, "whole number >= 2"),
    ],
)
def test_roles_are_checked(roles, players, match):
    class Odd:
        pass

    Odd.roles, Odd.players = roles, players
    with pytest.raises(ValueError, match=match):
        player_count(Odd())


def test_a_problem_holds_the_conversations_of_all():
    (problem,) = EnvironmentProblems(Kuhn(), [{"cards": "KJ"}])
    assert problem["prompt"] == problem[PLAYERS].conversations[0]
    assert problem[PLAYERS].roles == ("first", "second")
    assert problem[STATE] == {"cards": "KJ", "moves": ""}
    assert not roles_of(find_environment("guess", {}))


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        ("kuhn", {"reward": "money"}, "'chips' or 'win'"),
        ("nim", {"largest": 3, "most": 3}, "largest > most >= 1"),
        ("games", {"games": ("chess",)}, "game 'chess'"),
        ("games", {"games": ("nim",), "options": {"kuhn": {}}}, "game 'kuhn'"),
        ("games", {"games": ()}, "must be different"),
        ("waltz", {"label_weight": -1.0}, "weights of waltz"),
        ("waltz", {"sign_shown": 2.0}, "sign_shown and sign_judged"),
        ("waltz", {"refusals": ()}, "refusals must be texts"),
    ],
)
def test_wrong_options_are_refused(name, options, match):
    assert name in ENVIRONMENTS
    with pytest.raises(ValueError, match=match):
        find_environment(name, options)


def test_waltz_reads_problems_of_a_file():
    for record, match in (
        ({"prompt": "x", "reference": "bad"}, "class of a prompt of waltz"),
        ({"prompt": [{"role": "user", "content": "x"}], "reference": "benign"}, "feedback_prompt"),
    ):
        with pytest.raises(ValueError, match=match):
            Waltz().reset(record)
    assert isinstance(Waltz().reset({"prompt": "x", "reference": "benign"}), Opening)
    assert Move(None).rewards == {}


def tagged(text):
    return f"<answer>{text}</answer>"


@pytest.mark.parametrize(
    ("solutions", "solved", "proposer"),
    [
        (["7"] * 4, 1.0, 0.0),
        (["7", "3+4", "8", "no"], 0.5, 1.0),
        (["7", "1", "1", "1"], 0.25, 0.75),
    ],
)
def test_a_proposer_earns_most_where_half_of_the_solvers_are_right(solutions, solved, proposer):
    game = find_environment("proposals", {})
    opening = opening_of(game, {"number": 3}, "row 1")
    assert opening.roles == ("proposer", *["solver"] * 4) and roles_of(game) == opening.roles[:2]
    moves, _ = played(game, {"number": 3}, [tagged("1+2*3"), *map(tagged, solutions)])
    assert [move.player for move in moves] == [1, 2, 3, 4, None]
    assert all(news[0]["content"] == "1+2*3" for news in moves[0].observations[1:])
    right = [float(said in ("7", "3+4")) for said in solutions]
    assert [total(moves, solver) for solver in range(1, 5)] == right
    assert total(moves, 0) == proposer and moves[-1].measures["solved"] == solved


@pytest.mark.parametrize(
    "reply", ["", tagged("x"), tagged("10**9"), tagged("1/0"), tagged("1" * 65)]
)
def test_what_is_no_sum_ends_the_episode(reply):
    (move,), _ = played(find_environment("proposals", {}), {"number": 3}, [reply])
    assert move.player is None and move.rewards == [0.0] * 5 and move.measures == {"sums": 0.0}
