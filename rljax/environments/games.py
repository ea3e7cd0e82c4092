"""Several games of two players in one run: SPIRAL (arXiv:2506.24119) mixes them.

A role is one of a game, such as `kuhn/first`: the advantages of self-play keep a baseline for each.
"""

import random
from collections.abc import Mapping, Sequence
from typing import Any

from rljax.environments.environment import FIELD
from rljax.environments.kuhn import Kuhn
from rljax.environments.nim import Nim
from rljax.environments.players import Move, Opening
from rljax.errors import unknown_name

GAMES = {"kuhn": Kuhn, "nim": Nim}


class Games:
    """Games by name, each problem one of them."""

    players = 2

    def __init__(
        self,
        *,
        games: Sequence[str] = ("kuhn", "nim"),
        options: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        """Makes the games.

        Args:
            games: names of `GAMES`.
            options: of each game, by its name.

        Raises:
            ValueError: for an unknown game, none at all, or options that it does not take.
        """
        given = dict(options or {})
        for name in (*games, *given):
            if name not in GAMES or name not in games:
                known = GAMES if name in games else games
                raise unknown_name("game", name, list(known), f"{FIELD}.options.games")
        if not games or len(set(games)) < len(games):
            raise ValueError(f"games must be different, got {games!r} ({FIELD}.options.games).")
        self.games = {name: GAMES[name](**given.get(name, {})) for name in games}
        self.roles = tuple(f"{name}/{role}" for name in games for role in GAMES[name].roles)

    def record(self, seed: int) -> dict[str, Any]:
        """A problem of a random game."""
        name = random.Random(seed).choice(list(self.games))
        return {"game": name, **self.games[name].record(seed)}

    def reset(self, record: Mapping[str, Any]) -> Opening:
        """The beginning of the record's game."""
        name = record["game"]
        opening = self.games[name].reset(record)
        roles = [f"{name}/{role}" for role in GAMES[name].roles]
        return opening._replace(state={"game": name, "state": opening.state}, roles=roles)

    def step(self, state: dict[str, Any], reply: str) -> Move:
        """What the game answers."""
        name = state["game"]
        move = self.games[name].step(state["state"], reply)
        return move._replace(measures={f"{name}/{k}": v for k, v in move.measures.items()})
