"""Curricula on the host: what is known of the problems, and a prompt source that follows one."""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from rljax.config.curriculum import curriculum_of
from rljax.config.stage import Stage
from rljax.data.sources import place_of
from rljax.errors import typed
from rljax.objectives.curricula import Curriculum, Outcomes, Problems
from rljax.objectives.curricula.curriculum import next_turn, unchanged
from rljax.parallel.host import to_host
from rljax.rewards.pool import Scores
from rljax.sampling.keys import Purpose, purpose_key
from rljax.training.collect.grouped import step_group
from rljax.training.collect.prompts import Predict, Prompts, PromptSource, ShuffledPrompts, State
from rljax.training.collect.rollouts import Samples
from rljax.training.collect.rounds import most_rounds
from rljax.training.learner.compare import score_advantages
from rljax.training.learner.group import step_arrays
from rljax.training.run.context import Context, Record

# What a source knows of all M problems beside its curriculum's own state.
CALLS, VISITS = "calls", "visits"


def prompt_source(context: Context, stage: Stage, first_step: int) -> PromptSource:
    """The stage's training problems: in the order of the seed, or as its curriculum says.

    Args:
        context: of the run.
        stage: of a family with prompts.
        first_step: steps of the run before the stage.
    """
    seed, curriculum = context.config.seed, curriculum_of(stage)
    if curriculum is None:
        return ShuffledPrompts(context.train_problems, seed=seed)
    stream = jax.random.fold_in(purpose_key(seed, Purpose.CURRICULUM), first_step)
    problems = known_problems(context.train_problems, context.config, curriculum)
    advantages = None
    if "advantages" in curriculum.reads:
        advantages = jax.jit(functools.partial(score_advantages, stage.objective))
    return CurriculumPrompts(context.train_problems, problems, curriculum, stream, advantages)


def check_problems(context: Context, stage: Stage, prompts: int = 0) -> None:
    """Raises ValueError where a curriculum asks for problems, or columns, that are not there.

    Args:
        context: of the run.
        stage: of a family with prompts.
        prompts: that are asked for at once; by default those of a step.
    """
    curriculum = curriculum_of(stage)
    if curriculum is None:
        return
    problems = known_problems(context.train_problems, context.config, curriculum)
    check_count(problems, curriculum, stage, prompts or stage.batch.prompts_per_step)
    curriculum.first(problems, jax.random.key(0))


def check_count(problems: Problems, curriculum: Curriculum, stage: Stage, prompts: int) -> None:
    """Raises ValueError for a step that asks for more problems, `prompts`, than there are."""
    where, asked = f"config.{stage.name}", "batch.prompts_per_step"
    if not stage.online:  # whose policy writes its rows in rounds
        asked = "data.pair_prompts"
    name = stage.objective.choices["curriculum"]
    if "prompt_values" in curriculum.reads:
        pool = stage.objective.values["pool_factor"] * prompts
        if pool > problems.count:
            raise ValueError(
                f"curriculum={name!r} looks at {pool} candidates a step, and there are "
                f"{problems.count} problems: lower pool_factor or prompts_per_step "
                f"({where}.objective.pool_factor, {where}.batch.prompts_per_step)."
            )
        others = round(stage.objective.values["random_share"] * prompts)
        if others == prompts:
            raise ValueError(
                f"random_share={stage.objective.values['random_share']} of {prompts} prompts "
                f"leaves none that the critic chooses: lower it ({where}.objective.random_share)."
            )
    calls = most_rounds(stage)
    if "sources" in curriculum.reads and calls * prompts * problems.count > 2**31:
        raise ValueError(
            f"curriculum={name!r} draws with replacement, and {problems.count} problems x "
            f"{prompts} prompts x {calls} rounds are more addresses of noise than 2**31: take "
            f"fewer problems or prompts ({where}.{asked})."
        )
    subset = stage.objective.values.get("subset_problems")
    if subset is not None and prompts > subset:
        raise ValueError(
            f"curriculum={name!r} hands out subsets of {subset} problems, and {asked}={prompts} "
            f"asks for more ({where}.objective.subset_problems, {where}.{asked})."
        )
    if not curriculum.repeats and prompts > problems.count:
        raise ValueError(
            f"curriculum={name!r} takes each problem once in a step: {asked}={prompts} is more "
            f"than the {problems.count} problems ({where}.{asked})."
        )


def known_problems(
    records: Sequence[Record], config: ConfigDict, curriculum: Curriculum
) -> Problems:
    """What the data say of each problem, as far as a curriculum reads it.

    Raises:
        ValueError: for a column that is not named, or that a record lacks.
    """
    columns = {}
    fields = {
        "difficulty": "difficulty_column",
        "angles": "angle_column",
        "sources": "source_column",
    }
    for fact, field in fields.items():
        if fact in curriculum.reads:
            columns[fact] = _column(records, config.data[field], f"config.data.{field}")
            if fact != "sources":
                columns[fact] = _numbers(records, columns[fact], config, field)
    names: tuple[str, ...] = ()
    if "sources" in columns:
        names, columns["sources"] = labelled(columns["sources"])
        if len(names) == len(records) > 1:
            raise ValueError(
                f"Every one of {len(names)} problems has a label of its own in "
                f"{config.data.source_column!r}, {names[0]!r} say: name a column that problems "
                "share (config.data.source_column)."
            )
    return Problems(len(records), **columns, source_names=names)


def labelled(labels: Sequence[object]) -> tuple[tuple[str, ...], np.ndarray]:
    """The different labels in order, as texts, and the number of each row's, [M] i32.

    Numbers are in the order of numbers, all else in that of texts.
    """
    numeric = all(isinstance(label, int | float) for label in labels)
    known = sorted(set(labels)) if numeric else sorted({str(label) for label in labels})
    place = {label: number for number, label in enumerate(known)}
    rows = [place[label if numeric else str(label)] for label in labels]
    return tuple(map(str, known)), np.array(rows, np.int32)


def _column(records: Sequence[Record], column: str, field: str) -> list[object]:
    if not column:
        raise ValueError(
            f"The curriculum reads a column of the problems, and {field.rsplit('.', 1)[1]} names "
            f"none; the first problem has {sorted(records[0])} ({field})."
        )
    values = []
    for index in range(len(records)):
        record = records[index]
        value = record.get(column)
        if value is None or value != value:  # NaN, as tables write what is not there
            raise ValueError(
                f"{place_of(records, index)} has no {column!r}; it has {sorted(record)} ({field})."
            )
        values.append(value)
    return values


def _numbers(
    records: Sequence[Record], values: list[object], config: ConfigDict, field: str
) -> np.ndarray:
    for index, value in enumerate(values):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not np.isfinite(value):
            raise ValueError(
                f"{place_of(records, index)}: {config.data[field]!r} must be a finite "
                f"number, got {typed(value)} (config.data.{field})."
            )
    return np.array(values, np.float32)


class CurriculumPrompts:
    """Problems as a curriculum chooses them; see `PromptSource`."""

    def __init__(
        self,
        records: Sequence[Record],
        problems: Problems,
        curriculum: Curriculum,
        stream: jax.Array,
        advantages: Callable | None = None,
    ) -> None:
        """Compiles nothing yet.

        Args:
            records: M problems.
            problems: what is known of them.
            curriculum: that chooses.
            stream: key of its choices.
            advantages: arrays of a step to advantages [N, T], where the curriculum reads them.
        """
        self.records, self.problems, self.curriculum = records, problems, curriculum
        self.stream, self.advantages = stream, advantages
        self.observes = curriculum.observe is not unchanged
        predicted = "prompt_values" in curriculum.reads
        # A prediction runs the model, by a program of its own.
        self._take = self._turn if predicted else jax.jit(self._turn, static_argnums=(2, 3))
        self._observe = jax.jit(lambda state, seen: curriculum.observe(state, problems, seen))
        self._metrics = jax.jit(lambda state: curriculum.metrics(state, problems))

    def first_state(self) -> State:
        """The curriculum's, and that nothing was handed out yet."""
        own = {CALLS: np.int32(0), VISITS: np.zeros(self.problems.count, np.int32)}
        return to_host(self.curriculum.first(self.problems, self.stream)) | own

    def take(
        self, state: State, step: int, count: int, predict: Predict | None = None
    ) -> tuple[Prompts, State]:
        """See `PromptSource.take`."""
        index, own = to_host(
            self._take(self._own(state), self._address(state, step), count, predict)
        )
        visits = state[VISITS]
        earlier = np.array([(index[:place] == one).sum() for place, one in enumerate(index)])
        prompts = Prompts(
            [{**self.records[int(one)], "id": int(one)} for one in index],
            (visits[index] + earlier).astype(np.int64),
        )
        after = visits.copy()
        np.add.at(after, index, 1)
        return prompts, own | {CALLS: np.int32(state[CALLS] + 1), VISITS: after}

    def observe(self, state: State, samples: Samples, scores: Scores | None) -> State:
        """See `PromptSource.observe`."""
        if not self.observes:
            return state
        own = self._observe(self._own(state), self.seen(samples, scores))
        return to_host(own) | {CALLS: state[CALLS], VISITS: state[VISITS]}

    def metrics(self, state: State) -> dict[str, float]:
        """The curriculum's numbers, and the share of problems that were never sampled."""
        own = self._metrics(self._own(state))
        found = {f"curriculum/{name}": float(value) for name, value in own.items()}
        return found | {"curriculum/unseen_share": float((state[VISITS] == 0).mean())}

    def _turn(self, state: State, address: tuple, count: int, predict: Predict | None) -> tuple:
        calls, step = address
        turn = next_turn(self.stream, calls, step, count, predict)
        return self.curriculum.take(state, self.problems, turn)

    @staticmethod
    def _address(state: State, step: int) -> tuple[np.ndarray, np.ndarray]:
        return state[CALLS], np.int32(step)

    @staticmethod
    def _own(state: State) -> State:
        return {name: value for name, value in state.items() if name not in (CALLS, VISITS)}

    def seen(self, samples: Samples, scores: Scores) -> Outcomes:
        """What the curriculum is told of samples and their scores."""
        group = step_group(samples, scores)
        advantages = None
        if self.advantages is not None:
            arrays = step_arrays(group)
            advantages = row_means(self.advantages(arrays), arrays["mask"])
            advantages = np.asarray(advantages).reshape(group.scores.shape)
        return Outcomes(
            index=np.array([record["id"] for record in samples.records], np.int32),
            scores=group.scores,
            correct=group.correct,
            present=group.mask.any(axis=2),
            advantages=advantages,
        )


def row_means(values: jax.Array, mask: jax.Array) -> jax.Array:
    """[N, T] -> [N], the mean inside the mask; 0 of an empty row."""
    return jnp.where(mask, values, 0.0).sum(axis=-1) / jnp.maximum(mask.sum(axis=-1), 1)
