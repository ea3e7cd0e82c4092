"""Problems on the device, and the order in which a run meets them."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from ml_collections import ConfigDict

from rljax.config.curriculum import curriculum_of
from rljax.config.stage import Stage
from rljax.data.sources import stream
from rljax.objectives.curricula import Problems
from rljax.rewards.member import parse_rewards
from rljax.tasks.symbols import SymbolProblems, make_task
from rljax.training.collect.curriculum import check_count, known_problems
from rljax.verifiers import find_verifier


class TaskData(NamedTuple):
    """Problems of one task; every array leads with the problem."""

    prompts: Array  # [M, P] i32, padded on the left
    prompt_mask: Array  # [M, P] bool
    facts: dict[str, Array]  # what the verifier reads
    solutions: Array  # [M, T] i32
    solution_mask: Array  # [M, T] bool

    def take(self, index: Array) -> "TaskData":
        """Those with these indices."""
        return jax.tree.map(lambda x: x[index], self)


def load_task(config: ConfigDict, stage: Stage) -> tuple[TaskData, TaskData, Problems]:
    """Training and held-out problems: the same, in the same order, as those of the host loop.

    With what the stage's curriculum knows of the training problems.
    """
    data = config.data
    task = make_task(dict(data.tasks[0]))
    train = task.generate(data.train_seed, data.train_size, "train")
    heldout = task.generate(data.heldout_seed, data.heldout_size, "heldout")
    return _placed(train, config), _placed(heldout, config), _known(train, stage, config)


def _known(problems: SymbolProblems, stage: Stage, config: ConfigDict) -> Problems:
    curriculum = curriculum_of(stage)
    if curriculum is None:
        return Problems(len(problems.levels))
    records = [{"level": int(level)} for level in problems.levels]
    known = known_problems(records, config, curriculum)
    check_count(known, curriculum, stage, stage.batch.prompts_per_step)
    return known


def _placed(problems: SymbolProblems, config: ConfigDict) -> TaskData:
    """With prompts as wide as the host's rows."""
    fill = config.data.max_prompt_tokens - problems.prompts.shape[1]
    if fill < 0:
        raise ValueError(
            f"max_prompt_tokens={config.data.max_prompt_tokens} is too small for prompts of "
            f"{problems.prompts.shape[1]} tokens (config.data.max_prompt_tokens)."
        )
    left = (0, 0), (fill, 0)
    wide = problems._replace(
        prompts=np.pad(problems.prompts, left), prompt_mask=np.pad(problems.prompt_mask, left)
    )
    return TaskData(*jax.tree.map(jnp.asarray, tuple(wide)[: len(TaskData._fields)]))


def prompt_order(count: int, seed: int, length: int) -> np.ndarray:
    """The first indices of a run's stream of prompts, [length] i32; the host's own."""
    order = stream(_Indices(count), seed=seed, shuffle=True)
    return np.array([order[place]["id"] for place in range(length)], np.int32)


class _Indices:
    """Records without content: a stream adds their index."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict:
        return {}


def make_judge(config: ConfigDict) -> Callable:
    """judge(facts, tokens, mask) -> (reward, correct) of [B, G, T] completions of [B] problems.

    A completion is right where its reward reaches the `right_at` of config.scoring's first reward,
    as on the host.
    """
    verify = find_verifier(config.data.tasks[0]["name"])
    judged = jax.vmap(jax.vmap(verify, in_axes=(None, 0, 0)))
    right_at = np.float32(parse_rewards(config.scoring.rewards)[0].right_at)

    def judge(facts: dict[str, Array], tokens: Array, mask: Array) -> tuple[Array, Array]:
        reward = judged(facts, tokens, mask).reward
        return reward, reward >= right_at

    return judge
