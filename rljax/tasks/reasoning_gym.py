"""Problems of the reasoning-gym package, by name and parameters, as a random-access mixture."""

import bisect
import copy
import dataclasses
import functools
import json
import random
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Self

from rljax.errors import unknown_name
from rljax.tasks.problem import Problem
from rljax.tasks.seeds import check_seeds_apart
from rljax.tasks.worked import (
    ANSWER_TEMPLATE,
    WORKED,
    bare_answer,
    check_template,
    worked_solution,
)

FIELD = "config.data"

REFUSED = {
    "game_of_life_halting": "its scorer gives 1.0 to any non-empty text",
    "composite": "a mixture is a list of tasks with weights here",
}

# A problem that the held-out set also contains is replaced by the item this many times the size
# further on, and so forth; after so many draws the task is too small to be split by content.
MAX_REDRAWS = 1000

_ENTRY_KEYS = ("name", "weight", "parameters", "prompt_pattern")
_OWN_PARAMETERS = ("seed", "size")


@dataclasses.dataclass(frozen=True)
class TaskSpec:
    """One member of the mixture.

    Attributes:
        name: a reasoning-gym data set, such as "chain_sum".
        weight: relative share of the problems.
        parameters: fields of that data set's own config.
        prompt_pattern: regular expression whose group 1 becomes the prompt; None keeps the text.
    """

    name: str
    weight: float
    parameters: dict[str, Any]
    prompt_pattern: str | None


class ReasoningGym(Sequence[Problem]):
    """Random access to a weighted mixture of reasoning-gym tasks.

    Item i is a pure function of (tasks, seed, size, i): the member is drawn with a generator seeded
    by seed + i, and the package itself seeds its item with seed + i.

    Args:
        tasks: a name, a mapping {name, weight, parameters, prompt_pattern}, or a list of them.
        seed: first item seed.
        size: number of problems; the item seeds are seed ... seed + size - 1.
        prompt_pattern: default `prompt_pattern` of every member. Most questions wrap a short
            payload in a fixed sentence; r": (.*) =$" keeps only the sum of a chain_sum.
        answer_template: how a demonstration wraps its final answer; must contain "{answer}", other
            braces are kept as they are.
        worked_share: share of the demonstrations that show the steps; the others are the bare
            answer, as most text in the wild is. Drawn for each item from its own seed.
        heldout_prompts: prompts that must not occur here. Small tasks repeat themselves, so
            disjoint seeds alone do not keep test problems out of the training set.

    Raises:
        ValueError: unknown or refused task, unknown or invalid parameter, bad weight, pattern,
            template or share.
    """

    def __init__(
        self,
        tasks: Any,
        *,
        seed: int,
        size: int,
        prompt_pattern: str | None = None,
        answer_template: str = ANSWER_TEMPLATE,
        worked_share: float = 1.0,
        heldout_prompts: Collection[str] = (),
    ) -> None:
        if size < 1:
            raise ValueError(
                f"A task set needs at least one problem, got {size=} "
                f"({FIELD}.train_size, {FIELD}.heldout_size)."
            )
        if not 0 <= worked_share <= 1:
            raise ValueError(
                f"worked_share must be in [0, 1], got {worked_share} ({FIELD}.worked_share)."
            )
        check_template(answer_template)
        self.worked_share = worked_share
        self.specs = parse_tasks(tasks, prompt_pattern=prompt_pattern)
        self.seed, self.size = int(seed), int(size)
        self.answer_template = answer_template
        self._heldout = frozenset(heldout_prompts)
        span = self.size * (MAX_REDRAWS if self._heldout else 1)
        self._members = [_create(s.name, s.parameters, self.seed, span) for s in self.specs]
        total = 0.0
        self._cumulative = [total := total + spec.weight for spec in self.specs]

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Problem:
        if not -self.size <= index < self.size:
            raise IndexError(f"Problem {index} of {self.size}.")
        index = index % self.size
        for draw in range(MAX_REDRAWS if self._heldout else 1):
            problem = self._item(index, index + draw * self.size)
            if problem.prompt not in self._heldout:
                return problem
        raise ValueError(
            f"Problem {index} of {[s.name for s in self.specs]} is in the held-out set, and so are "
            f"{MAX_REDRAWS - 1} replacements: the task has too few different problems; use a "
            f"smaller held-out set or harder parameters ({FIELD}.tasks)."
        )

    def with_worked_share(self, worked_share: float) -> Self:
        """The same problems with another share of demonstrations that show the steps."""
        other = copy.copy(self)
        other.worked_share = worked_share
        return other

    def prompts(self) -> set[str]:
        """Returns every prompt of the set, to be passed as another's `heldout_prompts`."""
        return {self[index].prompt for index in range(self.size)}

    def _item(self, index: int, item: int) -> Problem:
        member = 0
        if len(self.specs) > 1:
            draw = random.Random(f"mixture/{self.seed + item}").random() * self._cumulative[-1]
            member = min(bisect.bisect_right(self._cumulative, draw), len(self.specs) - 1)
        spec = self.specs[member]
        entry = self._members[member][item]
        demonstration = None
        if spec.name in WORKED:
            worked = random.Random(f"worked/{self.seed + item}").random() < self.worked_share
            write = worked_solution if worked else bare_answer
            demonstration = write(entry, template=self.answer_template)
        reference = {
            "task": spec.name,
            "parameters": to_json(spec.parameters),
            "answer": entry["answer"],
            "entry": to_json(entry),
        }
        prompt = _keep_group(spec, entry["question"])
        return Problem(index, prompt, reference, demonstration, level=member)


def splits(
    tasks: Any,
    *,
    train_seed: int,
    heldout_seed: int,
    train_size: int,
    heldout_size: int,
    prompt_pattern: str | None = None,
    answer_template: str = ANSWER_TEMPLATE,
    worked_share: float = 1.0,
) -> tuple[ReasoningGym, ReasoningGym]:
    """Builds a training and a held-out set that share no problem, by seed and by content.

    Raises:
        ValueError: if the item seeds overlap (the package seeds item i with seed + i).
    """
    check_seeds_apart(
        train_seed=train_seed,
        train_size=train_size,
        heldout_seed=heldout_seed,
        heldout_size=heldout_size,
    )
    shared = {
        "prompt_pattern": prompt_pattern,
        "answer_template": answer_template,
        "worked_share": worked_share,
    }
    heldout = ReasoningGym(tasks, seed=heldout_seed, size=heldout_size, **shared)
    train = ReasoningGym(
        tasks, seed=train_seed, size=train_size, heldout_prompts=heldout.prompts(), **shared
    )
    return train, heldout


def parse_tasks(tasks: Any, *, prompt_pattern: str | None = None) -> list[TaskSpec]:
    """Validates a task list without making a problem.

    Args:
        tasks: as for `ReasoningGym`; config mappings with a `to_dict` method are accepted.
        prompt_pattern: default for members without their own.

    Raises:
        ValueError: as `ReasoningGym`.
    """
    if isinstance(tasks, str) or isinstance(tasks, Mapping) or hasattr(tasks, "to_dict"):
        tasks = [tasks]
    specs = [_parse_task(task, prompt_pattern) for task in tasks]
    if not specs:
        raise ValueError(f"No task given; name at least one ({FIELD}.tasks).")
    return specs


def _parse_task(task: Any, prompt_pattern: str | None) -> TaskSpec:
    task = {"name": task} if isinstance(task, str) else _plain(task)
    for key in task:
        if key not in _ENTRY_KEYS:
            raise unknown_name("task field", key, _ENTRY_KEYS, f"{FIELD}.tasks")
    if "name" not in task:
        raise ValueError(f"A task needs a name, got {task!r} ({FIELD}.tasks).")
    weight = float(task.get("weight", 1.0))
    if not 0 < weight < float("inf"):
        raise ValueError(f"Task {task['name']!r} needs a weight > 0, got {weight} ({FIELD}.tasks).")
    parameters = dict(task.get("parameters") or {})
    check_task(task["name"], parameters)
    pattern = task.get("prompt_pattern") or prompt_pattern
    if pattern is not None:
        _check_pattern(pattern)
    return TaskSpec(task["name"], weight, parameters, pattern)


def check_task(name: str, parameters: Mapping[str, Any]) -> None:
    """Raises ValueError unless the package has this task and it accepts these parameters."""
    from reasoning_gym.factory import DATASETS

    if name in REFUSED:
        raise ValueError(f"Task {name!r} is refused: {REFUSED[name]} ({FIELD}.tasks).")
    if name not in DATASETS:
        raise unknown_name("task", name, set(DATASETS) - set(REFUSED), f"{FIELD}.tasks")
    fields = {f.name for f in dataclasses.fields(DATASETS[name][1])} - set(_OWN_PARAMETERS)
    for parameter in parameters:
        if parameter not in fields:
            where = f"{FIELD}.tasks[{name}].parameters"
            raise unknown_name(f"parameter of task {name!r}", parameter, fields, where)
    try:
        _create(name, parameters, seed=0, size=1)
    except (AssertionError, TypeError, ValueError) as error:
        raise ValueError(
            f"Task {name!r} rejects the parameters {dict(parameters)!r}: {error} "
            f"({FIELD}.tasks[{name}].parameters)."
        ) from error


def score(answer: str | None, reference: Mapping[str, Any]) -> float:
    """The package's own score in [0, 1] of an answer to `reference` (of `Problem.reference`).

    An answer that makes the package's scorer raise is a wrong answer (prime_factorization raises on
    anything but numbers) and gets 0, if the gold answer passes through the same scorer.

    Args:
        answer: the model's answer.
        reference: task, parameters, entry and gold answer.

    Raises:
        Exception: whatever the scorer raises, if it fails on the gold answer too, or there is no
            gold answer: then the model's text is not at fault.
    """
    parameters = json.dumps(reference.get("parameters") or {}, sort_keys=True)
    scorer = _scorer(reference["task"], parameters)
    try:
        return float(scorer.score_answer(answer, from_json(reference["entry"])))
    except Exception:  # the package's scorers parse model text and fail in their own ways
        gold = reference.get("answer")
        if gold is None:
            raise
        float(scorer.score_answer(gold, from_json(reference["entry"])))
        return 0.0


@functools.lru_cache(maxsize=256)
def _scorer(name: str, parameters: str) -> Any:
    return _create(name, from_json(json.loads(parameters)), seed=0, size=1)


def _create(name: str, parameters: Mapping[str, Any], seed: int, size: int) -> Any:
    import reasoning_gym

    return reasoning_gym.create_dataset(name, seed=seed, size=size, **parameters)


PLAIN = frozenset({str, int, float, bool, type(None)})  # types that JSON holds as they are


def to_json(value: Any) -> Any:
    """Encodes an entry without loss: JSON has no tuples and only string keys.

    Example: {1: (2, 3)} -> {"__items__": [[1, {"__tuple__": [2, 3]}]]}
    """
    if type(value) in PLAIN:  # nearly all values, and the rest of the tests takes a while
        return value
    if isinstance(value, tuple):
        return {"__tuple__": [to_json(v) for v in value]}
    if isinstance(value, list):
        return [to_json(v) for v in value]
    if isinstance(value, Mapping):
        if all(isinstance(key, str) for key in value):
            return {str(key): to_json(v) for key, v in value.items()}
        return {"__items__": [[to_json(k), to_json(v)] for k, v in value.items()]}
    if isinstance(value, str):
        return str(value)  # numpy strings become plain ones
    return value.item() if hasattr(value, "item") else value


def from_json(value: Any) -> Any:
    """Inverse of `to_json`."""
    if isinstance(value, list):
        return [from_json(v) for v in value]
    if isinstance(value, dict):
        if "__tuple__" in value:
            return tuple(from_json(v) for v in value["__tuple__"])
        if "__items__" in value:
            return {from_json(k): from_json(v) for k, v in value["__items__"]}
        return {key: from_json(v) for key, v in value.items()}
    return value


def _plain(value: Any) -> dict[str, Any]:
    return value.to_dict() if hasattr(value, "to_dict") else dict(value)


def _check_pattern(pattern: str) -> None:
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(
            f"prompt_pattern {pattern!r} is no regular expression: {error} "
            f"({FIELD}.prompt_pattern)."
        ) from error
    if groups < 1:
        raise ValueError(
            f"prompt_pattern {pattern!r} needs a group, (...), around the part to keep "
            f"({FIELD}.prompt_pattern)."
        )


def _keep_group(spec: TaskSpec, question: str) -> str:
    if spec.prompt_pattern is None:
        return question
    match = re.search(spec.prompt_pattern, question, flags=re.DOTALL)
    if match is None or match.group(1) is None:
        raise ValueError(
            f"prompt_pattern {spec.prompt_pattern!r} does not match a question of task "
            f"{spec.name!r}: {question!r} ({FIELD}.prompt_pattern)."
        )
    return match.group(1)
