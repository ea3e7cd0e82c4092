"""Problems of a run as an environment begins them."""

from collections.abc import Sequence
from typing import Any

from rljax.data.sources import place_of
from rljax.environments.environment import FIELD, Environment, start_of
from rljax.environments.players import opening_of, roles_of
from rljax.user_modules import errors_located

Record = dict[str, Any]

# Columns that `EnvironmentProblems` adds; the third one where there are several players.
STATE, DEMONSTRATION = "environment_state", "environment_demonstration"
PLAYERS = "environment_players"


class MadeRecords(Sequence[Record]):
    """Problems that the environment makes, each of a seed.

    Args:
        environment: with a function record(seed).
        first_seed: of problem 0.
        size: number of problems.

    Raises:
        ValueError: for an environment that makes none.
    """

    def __init__(self, environment: Environment, *, first_seed: int, size: int) -> None:
        if not callable(getattr(environment, "record", None)):
            raise ValueError(
                "kind='environment' needs an environment with a function record(seed), which this "
                f"one has not: give problems of a file (config.data.kind, {FIELD}.name)."
            )
        self.environment, self.first_seed, self.size = environment, first_seed, size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Record:
        if not -self.size <= index < self.size:
            raise IndexError(index)
        seed = self.first_seed + index % self.size
        with errors_located(f"record({seed})", field=f"{FIELD}.name"):
            record = self.environment.record(seed)
        return {"reference": None, **record}

    def place(self, index: int) -> str:
        """The seed of a problem."""
        return f"problem of seed {self.first_seed + index}"


class EnvironmentProblems(Sequence[Record]):
    """Problems whose prompt is how the environment begins, with its state and its tools.

    `environment_demonstration` is a whole conversation where the environment has a function
    demonstration(record). Of several players the prompt is that of the one who replies first;
    `environment_players` holds the `Opening` of all of them.
    """

    def __init__(self, environment: Environment, problems: Sequence[Record]) -> None:
        """Wraps the problems; nothing is read yet."""
        self.environment, self.problems = environment, problems

    def __len__(self) -> int:
        return len(self.problems)

    def __getitem__(self, index: int) -> Record:
        record = self.problems[index]
        where = place_of(self.problems, index)
        made = dict(record)
        with errors_located(f"{where}: reset()", field=f"{FIELD}.name"):
            if roles_of(self.environment):
                opening = opening_of(self.environment, record, where)
                made |= {STATE: opening.state, PLAYERS: opening}
                made["prompt"] = opening.conversations[opening.player]
            else:
                start = start_of(self.environment, record, where)
                made |= {"prompt": start.messages, STATE: start.state}
                made |= {"tools": start.tools} if start.tools else {}
        if callable(shown := getattr(self.environment, "demonstration", None)):
            with errors_located(f"{where}: demonstration()", field=f"{FIELD}.name"):
                made[DEMONSTRATION] = shown(record)
        return made

    def place(self, index: int) -> str:
        """The place of the problem itself."""
        return place_of(self.problems, index)
