"""Monte-Carlo values of the states at the cuts of completions (SPO-chain, VinePPO).

    completions ─► cut_points ─► find_states ─► score_states ─► segment_arrays ─► start_values,
                                                (K continuations of each)         end_values

A state is a prompt with the first tokens of a completion. States that several completions of a
prompt share, the prompt alone first of all, are sampled from once. Continuations have noise of
their own: its address is the prompt and the cut, so that a step that is done again draws the same.
"""

import functools
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rljax.config.stage import Stage
from rljax.models.network import Params
from rljax.objectives.credit import CUTS
from rljax.objectives.credit.cuts import first_cuts
from rljax.objectives.credit.outcomes import place_outcomes
from rljax.objectives.credit.segment_values import monte_carlo_values, segment_values
from rljax.objectives.credit.slots import segments_from_starts
from rljax.objectives.parts import apply
from rljax.parallel.host import to_host
from rljax.registry import Objective
from rljax.sampling.engine import Engine
from rljax.sampling.request import Requests
from rljax.training.collect.continuations import Prefixes, sample_continuations, with_prefixes
from rljax.training.collect.experience import Annotations
from rljax.training.collect.grouped import step_group, step_rows
from rljax.training.collect.rollouts import Samples, distinct_ids
from rljax.training.collect.sampled import Drawn
from rljax.training.learner.group import step_arrays
from rljax.training.learner.needs import needs_scores
from rljax.training.run.context import Context
from rljax.training.run.phases import phase
from rljax.training.update.rows import Rows, per_sample


class PrefixValues:
    """Annotates samples with values of states and segments, from continuations of each cut.

    The further samples are of the same policy under the same filter, in calls with as many rows as
    the step's own samples, or with one state where that has more.
    """

    def __init__(
        self,
        context: Context,
        stage: Stage,
        engine: Engine,
        score: Callable[[Params, Rows], Mapping[str, Array]],
        *,
        key: Array,
        first_step: int,
    ) -> None:
        """Prepares the programs; nothing is compiled yet.

        Args:
            context: of the run.
            stage: of the samples.
            engine: with the stage's filter and stop strings, `value_samples` samples per prompt.
            score: (params, rows) -> what the trainer knows of the samples (learner/scoring.py);
                called where the objective needs it.
            key: of the stream that the noise of the samples is from.
            first_step: steps of the run before the stage.
        """
        self.context, self.stage, self.engine = context, stage, engine
        self.score, self.key, self.first_step = score, key, first_step
        objective, rows = stage.objective, stage.batch.sequences_per_step
        self.states_per_call = max(rows // engine.config.samples_per_prompt, 1)
        self.most_states = rows * objective.values["cut_limit"]
        self.cuts = jax.jit(functools.partial(cut_points, objective))
        self.segments = jax.jit(functools.partial(segment_arrays, objective))

    def __call__(self, drawn: Drawn) -> Annotations:
        """`state_values`, `start_values` and `end_values`, and the trainer's own arrays."""
        samples = drawn.samples
        group = step_group(samples, drawn.scores)
        arrays, known = step_arrays(group), {}
        if needs_scores(self.stage):
            rows = step_rows(samples, group, self.stage)
            scored = to_host(self.score(drawn.policy.params, rows))
            known = {name: per_sample(array) for name, array in scored.items()}
        arrays |= known
        cuts = np.asarray(self.cuts(arrays))
        states, place = find_states(samples.flat("tokens"), cuts, samples.samples_per_prompt)
        found = score_states(
            self.context,
            self.engine,
            drawn.weights,
            samples,
            states,
            rows=self.states_per_call,
            key=self.key,
            step=self.first_step + drawn.step,
        )
        values = self.segments(
            arrays,
            cuts,
            place,
            with_room(found.scores, self.most_states),
            with_room(found.finished, self.most_states),
        )
        seconds = {"sampling": found.sampling_seconds, "scoring": found.scoring_seconds}
        return Annotations(known | to_host(values), value_metrics(cuts, found), seconds)


class StateScores(NamedTuple):
    """K continuations of each of S states. NumPy."""

    scores: np.ndarray  # [S, K] f32, NaN where no reward applies
    finished: np.ndarray  # [S, K] bool, ended by themselves
    tokens: int  # sampled in all
    failed: int  # whose verifier failed
    sampling_seconds: float
    scoring_seconds: float


def cut_points(objective: Objective, arrays: Mapping[str, Array]) -> Array:
    """The states that get a value: the first `cut_limit` cuts of the segmentation's rule.

    Args:
        objective: its segmentation is one of `CUTS`.
        arrays: of the step by name (objectives/arrays.py).

    Returns:
        [N, T] bool, True on the token after the state.
    """
    rule = objective.bind(CUTS[objective.choices["segmentation"]])
    return first_cuts(apply(rule, arrays), cut_limit=objective.values["cut_limit"])


def find_states(
    tokens: np.ndarray, cuts: np.ndarray, samples_per_prompt: int
) -> tuple[Prefixes, np.ndarray]:
    """The distinct states before the marked tokens.

    Args:
        tokens: [N, T] i32; row b * G + g is sample g of prompt b.
        cuts: [N, T] bool.
        samples_per_prompt: G.

    Returns:
        S states in the order of their first rows, and [N, T] i32, the number of the state before
        each marked token, -1 elsewhere.
    """
    place = np.full(cuts.shape, -1, np.int32)
    numbers: dict[tuple[int, bytes], int] = {}
    found: list[tuple[int, int, int]] = []
    for row, slot in np.argwhere(cuts).tolist():
        prompt = row // samples_per_prompt
        state = prompt, tokens[row, :slot].tobytes()
        if state not in numbers:
            numbers[state] = len(found)
            found.append((prompt, row, slot))
        place[row, slot] = numbers[state]
    return Prefixes(*np.array(found, np.int32).reshape(-1, 3).T), place


def state_requests(
    samples: Samples, states: Prefixes, problems: int, value_samples: int
) -> Requests:
    """What is asked for to continue states, each completion to the length limit of the stage.

    The step's own samples have the numbers 0 .. G-1 as the address of their noise; continuation k
    of slot t of sample g has G + (g * T + t) * K + k.

    Args:
        samples: of the step, [B, G, T].
        states: S of them, at least one.
        problems: in the source of the prompts.
        value_samples: K.
    """
    _, group, slots = samples.rollouts.mask.shape
    prompts, mask = with_prefixes(
        samples.prompts, samples.prompt_mask, samples.flat("tokens"), states
    )
    ids = np.array(distinct_ids([record["id"] for record in samples.records], problems), np.int32)
    first = group + ((states.row % group) * slots + states.length) * value_samples
    shape = len(states.length), value_samples
    return Requests(
        prompts,
        mask,
        prompt_ids=ids[states.prompt],
        sample_ids=(first[:, None] + np.arange(value_samples)).astype(np.int32),
        continued=states.length,
        max_new_tokens=np.full(shape, slots, np.int32),
    )


def score_states(
    context: Context,
    engine: Engine,
    weights: Params,
    samples: Samples,
    states: Prefixes,
    *,
    rows: int,
    key: Array,
    step: int,
) -> StateScores:
    """Samples K continuations of each state, and scores each with the tokens that it continues.

    Args:
        context: of the run.
        engine: with the stage's filter and stop strings, K samples and room for T tokens.
        weights: `engine.load`.
        samples: of the step.
        states: S of them; there may be none.
        rows: states of one call of the engine.
        key: of the stream that the noise of the samples is from.
        step: counted over the run.
    """
    started = time.perf_counter()
    count, value_samples = len(states.length), engine.config.samples_per_prompt
    texts = [""] * (count * value_samples)
    finished = np.zeros((count, value_samples), bool)
    lengths = np.zeros((count, value_samples), int)
    written = samples.flat("tokens")
    if count:
        problems = len(context.train_problems)
        requests = state_requests(samples, states, problems, value_samples)
        calls = sample_continuations(engine, weights, requests, rows=rows, key=key, step=step)
        for index, rollouts in calls:
            finished[index], lengths[index] = rollouts.finished, rollouts.mask.sum(axis=-1)
            for (call, k), length in np.ndenumerate(lengths[index]):
                state = index[call]
                begun = written[states.row[state], : states.length[state]]
                whole = np.concatenate([begun, rollouts.tokens[call, k, :length]])
                texts[state * value_samples + k] = context.text_format.text(whole)
    sampled = time.perf_counter()
    references = context.references(samples.records)
    of_texts = np.repeat(states.prompt, value_samples)
    with phase("scoring"):
        scores = context.scorer.score(
            [samples.prompt_texts[prompt] for prompt in of_texts],
            texts,
            [references[prompt] for prompt in of_texts],
            (lengths + states.length[:, None]).reshape(-1).tolist(),
        )
    return StateScores(
        scores=scores.total.reshape(count, value_samples),
        finished=finished,
        tokens=int(lengths.sum()),
        failed=int(scores.failed.sum()),
        sampling_seconds=sampled - started,
        scoring_seconds=time.perf_counter() - sampled,
    )


def segment_arrays(
    objective: Objective,
    arrays: Mapping[str, Array],
    cuts: Array,
    place: Array,
    scores: Array,
    finished: Array,
) -> dict[str, Array]:
    """Values of states, and of the two ends of each token's segment.

    Without `fill_values` the cuts alone end segments: the last one reaches to the end of the row.
    With it segments are those of the segmentation, and one that begins at a state without a value
    has an advantage of 0. The value of the end is the sample's own score, or `unfinished_score`
    where it was cut off, as for the continuations of its prefixes.

    Args:
        objective: its advantage reads what this returns.
        arrays: of the step by name.
        cuts: [N, T] bool, of `cut_points`.
        place: [N, T] i32, of `find_states`.
        scores: [S, K] f32, and any rows behind; NaN has no part in the value of its state.
        finished: [S, K] bool.

    Returns:
        `state_values`, `start_values` and `end_values`, [N, T] f32, as the parts of `credit/` name
        them.
    """
    mask, unfinished = arrays["mask"], objective.values["unfinished_score"]
    of_states, _ = monte_carlo_values(
        scores, finished, ~jnp.isnan(scores), unfinished_score=unfinished
    )
    state_values = jnp.where(place >= 0, of_states[jnp.maximum(place, 0)], jnp.nan)
    outcome = arrays["scores"]
    if unfinished is not None:
        outcome = jnp.where(arrays["finished"], outcome, unfinished)
    filled = objective.values["fill_values"]
    if filled:
        segments = apply(objective.part("segmentation"), arrays)
    else:
        segments = segments_from_starts(cuts, mask)
    start, end = segment_values(
        state_values, place_outcomes(outcome, mask), mask, segments, fill_values=filled
    )
    return {"state_values": state_values, "start_values": start, "end_values": end}


def with_room(array: np.ndarray, rows: int) -> np.ndarray:
    """[S, ...] -> [rows, ...], zeros behind, so that one program serves any S."""
    return np.pad(array, ((0, rows - len(array)), *[(0, 0)] * (array.ndim - 1)))


def value_metrics(cuts: np.ndarray, found: StateScores) -> dict[str, float]:
    """What the values of a step cost, and how many of the continuations ran into the limit.

    Args:
        cuts: [N, T] bool.
        found: of the states at the cuts.
    """
    metrics = {
        "cuts_per_completion": float(cuts.sum(axis=1).mean()),
        "value_states": float(len(found.scores)),
        "value_tokens": float(found.tokens),
        "value_scoring_failures": float(found.failed),
    }
    if found.finished.size:
        metrics["value_truncated_share"] = float(1.0 - found.finished.mean())
    return metrics
