"""What the symbol tasks share: problems as arrays, verdicts, and how problems are drawn."""

import abc
import dataclasses
import hashlib
import itertools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from rljax.tasks.symbols import alphabet

FIELD = "config.data.tasks"
SPLITS = ("train", "heldout")

# One problem in so many belongs to the held-out split.
HELDOUT_SHARE = 8
# Problems are drawn in rounds of fixed size, so that a longer set begins with the shorter one.
ROUND = 4096
# After so many rounds without a new problem the space counts as used up, and problems repeat.
BARREN_ROUNDS = 4


class SymbolProblems(NamedTuple):
    """M problems as arrays.

    Attributes:
        prompts: [M, P] i32, padded on the left.
        prompt_mask: [M, P] bool, True on prompt tokens.
        facts: name -> [M, ...], all that the verifier reads.
        solutions: [M, T] i32, a right completion and its eos, then padding.
        solution_mask: [M, T] bool, True on the solution, eos included.
        levels: [M] i32, how hard each problem is, in steps of the task's own.
    """

    prompts: np.ndarray
    prompt_mask: np.ndarray
    facts: dict[str, np.ndarray]
    solutions: np.ndarray
    solution_mask: np.ndarray
    levels: np.ndarray


class Verdict(NamedTuple):
    """What a verifier says: Python numbers of a text, arrays of token rows.

    Attributes:
        reward: f32.
        correct: bool, the problem is solved.
        checks: name -> bool, further facts about the completion; empty for most tasks.
    """

    reward: Any
    correct: Any
    checks: dict[str, Any]


class Drawn(NamedTuple):
    """One problem before it becomes a row of arrays.

    Attributes:
        prompt: its text.
        solution: text of a right completion, without eos.
        facts: what the verifier reads, the same names and shapes for every problem of a task.
        key: problems with one key are in one split.
        level: how hard it is, in steps of the task's own: operations, digits, empty cells.
    """

    prompt: str
    solution: str
    facts: dict[str, Any]
    key: str
    level: int


@dataclasses.dataclass(frozen=True)
class SymbolTask(abc.ABC):
    """A task over the alphabet; its fields are its difficulty.

    A subclass says how problems are drawn and, in plain Python, what a right completion is. The
    same verdict on the device is in rljax/verifiers, by the same name.
    """

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """The task's name in the table TASKS."""

    @property
    @abc.abstractmethod
    def prompt_tokens(self) -> int:
        """P, length of the longest prompt."""

    @property
    @abc.abstractmethod
    def completion_tokens(self) -> int:
        """T, length of the longest solution, eos included."""

    @abc.abstractmethod
    def draw(self, rng: np.random.Generator, count: int) -> Iterator[Drawn]:
        """At most `count` random problems of any split; draws that fit no problem yield nothing."""

    @abc.abstractmethod
    def verify_text(
        self, facts: Mapping[str, Any], completion: str, *, finished: bool = True
    ) -> Verdict:
        """Judges one completion by other means than the device's verifier.

        Args:
            facts: one row of `SymbolProblems.facts`, or the same as nested lists.
            completion: text before eos.
            finished: False if it was cut off before an eos: then it is wrong.
        """

    def in_heldout(self, key: str) -> bool:
        """True if problems with this key are held out: by content, so that no seed mixes them."""
        digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
        return int.from_bytes(digest, "little") % HELDOUT_SHARE == 0

    def generate(self, seed: int, count: int, split: str) -> SymbolProblems:
        """The first `count` problems of a split in the order of a seed.

        Whatever the seeds, "train" and "heldout" share no problem. No problem occurs twice, unless
        the split has fewer than `count`: then the set repeats from its beginning.

        Args:
            seed: of the draws, >= 0.
            count: M.
            split: "train" or "heldout".

        Raises:
            ValueError: unknown split, bad seed or count, or a split without any problem.
        """
        found = self.texts(seed, count, split)
        prompts, prompt_mask = alphabet.rows(
            [drawn.prompt for drawn in found], self.prompt_tokens, left=True
        )
        solutions, solution_mask = alphabet.rows(
            [drawn.solution + alphabet.EOS for drawn in found], self.completion_tokens, left=False
        )
        facts = {name: _stack([d.facts[name] for d in found]) for name in found[0].facts}
        levels = np.array([drawn.level for drawn in found], np.int32)
        return SymbolProblems(prompts, prompt_mask, facts, solutions, solution_mask, levels)

    def texts(self, seed: int, count: int, split: str) -> list[Drawn]:
        """The same problems as `generate` as texts."""
        if split not in SPLITS:
            raise ValueError(f"Unknown split {split!r}; known: {', '.join(map(repr, SPLITS))}.")
        if seed < 0 or count < 1:
            raise ValueError(
                f"{self.name} needs seed >= 0 and count >= 1, got {seed=}, {count=} ({FIELD})."
            )
        found: dict[str, Drawn] = {}
        barren = 0
        for turn in itertools.count():
            before = len(found)
            for drawn in self.draw(np.random.default_rng([seed, turn]), ROUND):
                if self.in_heldout(drawn.key) == (split == "heldout"):
                    found.setdefault(drawn.prompt, drawn)
                if len(found) == count:
                    return list(found.values())
            barren = barren + 1 if len(found) == before else 0
            if barren == BARREN_ROUNDS:
                break
        if not found:
            raise ValueError(f"{self} has no problem in the split {split!r} ({FIELD}).")
        return list(itertools.islice(itertools.cycle(found.values()), count))


def _stack(values: list[Any]) -> np.ndarray:
    array = np.asarray(values)
    small = {"i": np.int32, "f": np.float32, "b": np.bool_}
    return array.astype(small[array.dtype.kind])


def check_range(task: str, name: str, value: Any, low: float, high: float) -> None:
    """Raises ValueError unless low <= value <= high, and is whole where both limits are."""
    whole = isinstance(low, int) and isinstance(high, int)
    kinds = int if whole else int | float
    if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
        what = "a whole number" if whole else "a number"
        raise ValueError(
            f"{name} of {task} must be {what} from {low} to {high}, got {value!r} ({FIELD}.{name})."
        )


def check_bounds(task: str, name: str, low: int, high: int) -> None:
    """Raises ValueError unless min_<name> <= max_<name>."""
    if low > high:
        raise ValueError(
            f"min_{name}={low} of {task} is above max_{name}={high} "
            f"({FIELD}.min_{name}, {FIELD}.max_{name})."
        )
