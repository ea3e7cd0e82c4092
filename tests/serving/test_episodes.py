"""Episodes: every id of theirs was sampled, or inserted as the model read it."""

import asyncio
from typing import Any

import pytest

from rljax.serving.episodes import Segment
from rljax.serving.protocol import BadRequest, read_chat, read_completion
from rljax.serving.service import Service
from tests.folders import END, ids_of

START = [{"role": "user", "content": "guess"}]


class Player:
    """Plays one episode, as a client does, and counts what it has been answered."""

    def __init__(self, service: Service, name: str) -> None:
        self.service, self.name = service, name
        self.prompts: list[list[int]] = []
        self.answers: list[list[int]] = []

    def chat(self, messages: list[dict], **fields: Any) -> dict:
        """One turn: the message of the answer."""
        body = {"messages": messages, "episode": self.name, "return_token_ids": True, "seed": 1}
        body |= {"max_tokens": 12} | fields
        work = self.service.chat(read_chat(body, self.service.model))
        (choice,) = asyncio.run(self.service.answer(work))["choices"]
        self.prompts.append(choice["prompt_token_ids"])
        self.answers.append(choice["token_ids"])
        return choice["message"]

    def complete(self, prompt: list[int], **fields: Any) -> list[int]:
        """One turn of ids."""
        body = {"prompt": prompt, "episode": self.name, "return_token_ids": True, "seed": 2}
        work = self.service.completion(read_completion(body | fields, self.service.model))
        (choice,) = asyncio.run(self.service.answer(work))["choices"]
        return choice["token_ids"]


@pytest.fixture
def player(service, request) -> Player:
    player = Player(service, request.node.name)
    yield player
    service.episodes._episodes.clear()


def test_the_ids_of_an_episode_are_what_the_model_read_and_wrote(player, service):
    messages = list(START)
    for turn, tokens in enumerate((12, 1, 9)):
        messages.append(player.chat(messages, max_tokens=tokens, seed=turn))
        messages.append({"role": "user", "content": f"reply {turn}"})
    (segment,) = service.episodes.close(player.name)
    for prompt, answer, turn in zip(player.prompts, player.answers, segment.turns, strict=True):
        assert segment.ids[: turn.start] == prompt
        assert segment.ids[turn.start : turn.stop] == answer
        assert segment.versions[turn.start : turn.stop] == [3] * len(answer)
    sampled = [id for id, mark in zip(segment.ids, segment.sampled, strict=True) if mark]
    assert sampled == [id for answer in player.answers for id in answer]
    # What stands between two answers is the template's text, from the end of the turn on.
    for place in range(2):
        between = segment.ids[segment.turns[place].stop : segment.turns[place + 1].start]
        shown = f"\n<|start|>user\nreply {place}<|end|>\n<|start|>assistant\n"
        end = [] if player.answers[place][-1] == END else [END]
        assert between == end + ids_of(shown)
    for mark, logprob, version in zip(
        segment.sampled, segment.logprobs, segment.versions, strict=True
    ):
        assert (logprob < 0, version) == ((True, 3) if mark else (False, -1))
    assert [turn.seed for turn in segment.turns] == [0, 1, 2]
    with pytest.raises(BadRequest, match="There is no episode"):
        service.episodes.read(player.name)


def test_each_turn_has_noise_of_its_own(player, service):
    """The same seed and the same ids: the turns are the samples of one request, in order."""
    fields = {"seed": 7, "max_tokens": 20, "ignore_eos": True}
    for number in range(3):
        player.chat(START, **fields, on_rewrite="segment" if number else "refuse")
    body = {"messages": START, "n": 3, "return_token_ids": True, **fields}
    work = service.chat(read_chat(body, service.model))
    samples = [each["token_ids"] for each in asyncio.run(service.answer(work))["choices"]]
    assert player.answers == samples and len(set(map(tuple, samples))) == 3


def test_what_is_continued_keeps_its_noise(player, service):
    """A turn in two parts is the turn in one go."""
    prompt = [5, 6, 7]
    first = player.complete(prompt, max_tokens=2, ignore_eos=True)  # turn 0
    prompt = [*prompt, *first, 8]
    half = player.complete(prompt, max_tokens=3, ignore_eos=True)
    rest = player.complete([*prompt, *half], max_tokens=5, ignore_eos=True, continued=3)
    service.episodes.end_all()
    player.complete([5, 6, 7], max_tokens=2, ignore_eos=True)
    whole = player.complete(prompt, max_tokens=8, ignore_eos=True)
    assert half + rest == whole


def test_sampled_ids_are_never_tokenised_again(player, service):
    """Bytes that are no UTF-8 are other ids once they have been text."""
    bias = {str(5 + 0xFF): 100}
    answer = player.chat(START, logit_bias=bias, max_tokens=3)
    assert answer["content"] == "\ufffd" * 3
    player.chat([*START, answer, {"role": "user", "content": "next"}])
    assert player.answers[0] == [5 + 0xFF] * 3
    count = len(player.prompts[0])
    assert player.prompts[1][count : count + 3] == [5 + 0xFF] * 3
    assert ids_of(answer["content"]) != player.answers[0]


def test_an_answer_that_ended_by_itself_is_not_ended_twice(player):
    answer = player.chat(START, logit_bias={str(END): 100})
    assert player.answers[0] == [END] and answer["content"] == ""
    player.chat([*START, answer, {"role": "user", "content": "next"}])
    count = len(player.prompts[0])
    assert player.prompts[1][count:] == ids_of(
        "<|end|>\n<|start|>user\nnext<|end|>\n<|start|>assistant\n"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda talk: [{"role": "user", "content": "other"}, *talk[1:]],
            "message 0 is not the one",
        ),
        (lambda talk: [talk[0], {**talk[1], "content": "x"}, talk[2]], "message 1 is not the one"),
        (lambda talk: talk[:1], "message 1 is not the one"),
        (lambda talk: talk[:2], "no message follows the last answer"),
    ],
)
def test_a_conversation_that_was_changed_is_refused_or_begins_anew(
    player, service, change, message
):
    talk = [*START, player.chat(START), {"role": "user", "content": "next"}]
    with pytest.raises(BadRequest, match=message) as caught:
        player.chat(change(talk))
    assert (caught.value.status, caught.value.code) == (400, "episode_rewritten")
    player.chat(talk)  # the episode is as it was
    player.chat(change(talk), on_rewrite="segment")
    first, second = service.episodes.read(player.name)
    assert [len(first.turns), len(second.turns)] == [2, 1]
    assert second.ids[: second.turns[0].start] == player.prompts[-1]


def test_a_template_that_forgets_is_refused_by_name(player, service):
    """It writes an answer in another way once a message follows, as those without thoughts do."""
    forget = {"chat_template_kwargs": {"forget": True}}
    talk = [*START, player.chat(START, **forget), {"role": "user", "content": "next"}]
    message = r"earlier turns in another way.*\(forgotten\).*TokenizerTemplate of"
    with pytest.raises(BadRequest, match=message):
        player.chat(talk, **forget)
    player.chat(talk, **forget, on_rewrite="segment")
    first, second = service.episodes.read(player.name)
    counts = [segment.sampled.count(True) for segment in (first, second)]
    assert counts == list(map(len, player.answers))
    assert second.ids[: second.turns[0].start] == ids_of(
        "<|start|>user\nguess<|end|>\n<|start|>assistant\n(forgotten)<|end|>\n"
        "<|start|>user\nnext<|end|>\n<|start|>assistant\n"
    )


def test_an_episode_of_ids_extends_its_ids(player, service):
    first = player.complete([5, 6, 7], max_tokens=4)
    with pytest.raises(BadRequest, match="differs at id 1 from the 7 ids before it"):
        player.complete([5, 9, 7, *first, 8])
    player.complete([5, 6, 7, *first, 8, 9], max_tokens=2)
    with pytest.raises(BadRequest, match="its last turn was asked for as ids"):
        player.chat(START)
    (segment,) = service.episodes.read(player.name)
    assert segment.sampled == [False] * 3 + [True] * 4 + [False] * 2 + [True] * 2


def test_a_turn_at_a_time_and_so_many_episodes(player, service):
    episodes = service.episodes
    opened = episodes.open_ids("busy", [5], "refuse")
    for call in (episodes.read, episodes.close):
        with pytest.raises(BadRequest, match="is running") as caught:
            call("busy")
        assert caught.value.status == 409
    with pytest.raises(BadRequest, match="A turn of episode 'busy' is running"):
        episodes.open_ids("busy", [5], "refuse")
    for number in range(3):
        episodes.open_ids(f"episode {number}", [5], "refuse")
    with pytest.raises(BadRequest, match=r"keeps 4 episodes already.*\(episode, --episodes\)"):
        episodes.open_ids("one more", [5], "refuse")
    episodes.close_turn(opened.episode, opened.turn)  # without an answer it is forgotten
    episodes.open_ids("one more", [5], "refuse")


def test_a_request_that_cannot_be_answered_leaves_no_turn_open(player, service):
    with pytest.raises(BadRequest, match="at most 192 fit"):
        player.chat(START, max_tokens=190)
    with pytest.raises(BadRequest, match="lacks content"):
        player.chat([{"role": "user"}])
    player.chat(START)
    assert len(service.episodes.read(player.name)) == 1


def test_a_segment_has_as_many_of_each():
    segment = Segment()
    segment.insert([1, 2])
    lengths = {len(getattr(segment, name)) for name in ("ids", "sampled", "logprobs", "versions")}
    assert lengths == {2} and segment.model_logprobs == [0.0, 0.0]


def test_an_end_that_comes_late_touches_no_other_turn(player, service):
    """A stream's end is seen after its answer is kept, and a next turn may have begun by then."""
    episodes = service.episodes
    player.complete([5, 6, 7], max_tokens=2)
    first = episodes.open_ids(player.name, episodes.read(player.name)[0].ids + [8], "refuse")
    episodes.close_turn(first.episode, object())  # of a turn that is over
    with pytest.raises(BadRequest, match="is running"):
        episodes.open_ids(player.name, [5], "segment")
    episodes.close_turn(first.episode, first.turn)
    assert len(episodes.read(player.name)[0].turns) == 1
