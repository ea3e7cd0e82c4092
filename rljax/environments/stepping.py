"""Steps of episodes in worker processes (rewards/workers.py), with a time limit for each."""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rljax.environments.environment import turn_of
from rljax.environments.players import Moved, move_of, player_count, roles_of
from rljax.environments.table import absolute_name, find_environment
from rljax.processes.processes import ONE, Processes
from rljax.rewards.share import shared_outcomes
from rljax.rewards.worker import Job, Outcome, Timer, answer
from rljax.rewards.workers import Workers

# The job of a worker (rewards/worker.py), and its name in messages.
WORK, NOUN = "rljax.environments.stepping:prepare", "environment"

# [state, messages, reward, done], or of several players [state, *Moved]; a list, as it may come
# from another process.
Answer = list


def prepare(name: str, options: Mapping[str, Any]) -> Callable[[Any, str], Answer]:
    """What answers (state, reply) in a worker; what the environment warms is warm by then."""
    environment = find_environment(name, options)
    if callable(warm := getattr(environment, "warm", None)):
        warm()

    answered = move_of if roles_of(environment) else turn_of

    def step(state: Any, reply: str) -> Answer:
        state, answer = answered(environment, state, reply)
        return [state, *answer]

    return step


def moved(answer: Answer, *, several: bool) -> tuple[Any, Moved]:
    """The state and the `Moved` of an answer, which is that of one player or of several."""
    if several:
        state, *rest = answer
        return state, Moved(*rest)
    state, messages, reward, done = answer
    return state, Moved(None if done else 0, [messages], [reward])


class Stepper:
    """Answers replies with an environment in worker processes; a context manager.

    Args:
        name: of the environment (table.py).
        options: of the environment.
        workers: processes; 0 steps in this process.
        timeout_seconds: limit for one step.
        memory_mb: address space of a worker.
        processes: of the run; each one plays an equal share with its own workers.
    """

    def __init__(
        self,
        name: str,
        options: Mapping[str, Any],
        *,
        workers: int,
        timeout_seconds: float,
        memory_mb: int,
        processes: Processes = ONE,
    ) -> None:
        environment = find_environment(name, options)
        self.roles, self.players = roles_of(environment), player_count(environment)
        self.processes, self.timeout_seconds = processes, timeout_seconds
        arguments = absolute_name(name), dict(options)
        job = Job(WORK, arguments, NOUN, timeout_seconds, memory_mb)
        self._step = None if workers else prepare(*arguments)
        self._workers = Workers(job, workers) if workers else None

    def __enter__(self) -> "Stepper":
        return self

    def __exit__(self, *exception: Any) -> None:
        self.close()

    @property
    def overlaps(self) -> bool:
        """Whether steps run in processes of their own, beside what their caller does."""
        return self._workers is not None

    def close(self) -> None:
        """Ends the workers; may be called twice."""
        if self._workers is not None:
            self._workers.close()

    def try_first(self, state: Any) -> None:
        """Takes one step with an empty reply, so that a broken environment is known at once.

        Raises:
            ValueError: with the line of the user's file that fails.
            ScoringError: the workers cannot start.
        """
        (outcome,) = self._here([(copy.deepcopy(state), "")])
        if outcome.answer is None:
            raise ValueError(
                "The environment fails on an empty reply to the first problem: "
                f"{outcome.error} (config.environment.name; config.scoring.try_first=False starts "
                "anyway)."
            )

    def step(self, requests: Sequence[tuple[Any, str]]) -> list[Outcome]:
        """Answers N (state, reply), in their order; an environment that fails is an error there.

        Raises:
            ScoringError: the workers cannot start.
        """
        return shared_outcomes(self.processes, requests, self._here) if requests else []

    def _here(self, requests: Sequence[tuple[Any, str]]) -> list[Outcome]:
        if not requests:
            return []
        if self._workers is not None:
            return self._workers.ask(requests)
        timer = Timer(self.timeout_seconds, kill=False)
        with timer.installed():
            return [answer(self._step, request, timer, NOUN) for request in requests]
