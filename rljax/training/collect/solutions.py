"""Right completions that are kept for later steps, in arrays of a fixed size, for checkpoints."""

from collections.abc import Sequence

import numpy as np

from rljax.training.collect.prompts import State

FIELDS = ("solution_of", "solution_tokens", "solution_length", "solutions_added")


class Solutions:
    """A store of completions; where it is full the oldest ones go."""

    def __init__(self, room: int, slots: int, *, most: int) -> None:
        """Takes the sizes.

        Args:
            room: completions in all.
            slots: tokens of a completion.
            most: of one problem.
        """
        self.room, self.slots, self.most = room, slots, most

    def first_state(self) -> State:
        """Nothing kept: `FIELDS`."""
        return {
            "solution_of": np.full(self.room, -1, np.int32),
            "solution_tokens": np.zeros((self.room, self.slots), np.int32),
            "solution_length": np.zeros(self.room, np.int32),
            "solutions_added": np.int64(0),
        }

    def add(self, state: State, problem: int, solutions: Sequence[np.ndarray]) -> State:
        """The state with further completions of a problem, each once, and `most` of them."""
        known = {tokens.tobytes() for tokens in self.of(state, problem)}
        fresh = {tokens.tobytes(): tokens for tokens in solutions}
        fresh = [tokens for text, tokens in fresh.items() if text not in known]
        fresh = fresh[: self.most - len(known)]
        if not fresh:
            return state
        new = {name: np.array(state[name]) for name in FIELDS}
        for tokens in fresh:
            place = int(new["solutions_added"]) % self.room
            new["solution_of"][place], new["solution_length"][place] = problem, len(tokens)
            new["solution_tokens"][place] = 0
            new["solution_tokens"][place, : len(tokens)] = tokens
            new["solutions_added"] += 1
        return state | new

    def of(self, state: State, problem: int) -> list[np.ndarray]:
        """The completions of a problem, [L] i32 each."""
        places = np.flatnonzero(state["solution_of"] == problem)
        lengths = state["solution_length"]
        return [state["solution_tokens"][place, : lengths[place]] for place in places]
