"""Seats of agents: one episode of each key, within the limits of a run."""

import pytest

from rljax.serving.protocol import BadRequest, read_chat
from rljax.serving.seats import NO_ROOM, Rules, Seat, SeatService
from tests.serving.conftest import LIMITS

KEYS = [f"key {number}" for number in range(LIMITS.episodes + 2)]
RULES = Rules(
    temperature=1.0,
    top_k=0,
    top_p=1.0,
    min_p=0.0,
    stop=(),
    prompt_tokens=40,
    room=60,
    turns=3,
    turn_tokens=8,
)


@pytest.fixture
def seats(service) -> SeatService:
    made = SeatService(service.worker, service.text_format, RULES, "refuse")
    made.seat({key: Seat((0, 0), 1, 0, place, len(KEYS)) for place, key in enumerate(KEYS)})
    return made


def asked(seats: SeatService, key: str, text: str):
    body = {"messages": [{"role": "user", "content": text}]}
    return seats.chat(read_chat(body, seats.model), key)


def test_every_seat_has_an_episode_however_few_a_server_keeps(seats):
    works = [asked(seats, key, "guess") for key in KEYS]
    assert [work.asks[0].first_sample for work in works] == list(range(len(KEYS)))
    assert seats.episodes.kept == len(KEYS) > LIMITS.episodes


def test_what_was_played_cannot_be_taken_back(seats):
    asked(seats, KEYS[0], "guess")
    with pytest.raises(BadRequest, match="end with the run's step"):
        seats.close_episode("episode", KEYS[0])
    assert seats.episodes.kept == 1


def test_a_refusal_is_forgotten_once_the_episode_goes_on(seats):
    with pytest.raises(BadRequest, match="have room"):
        asked(seats, KEYS[0], "g" * 50)
    assert seats.refused == {KEYS[0]: NO_ROOM}
    asked(seats, KEYS[0], "guess")
    assert seats.refused == {}
