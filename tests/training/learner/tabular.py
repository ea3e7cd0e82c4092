"""A policy so small that every batch it can sample is enumerated, and its exact gradients.

The policy has a row of logits for each state: a prompt and what was written after it. `Tabular` is
a network as the learner sees one, so that the learner's own functions run on it. What their result
is compared with is computed here in float64 numpy, from the definition of the softmax, and shares
no code with them.
"""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from rljax.config.load import complete
from rljax.config.stage import Stage
from rljax.config.validate import validate
from rljax.models.config import ModelConfig
from rljax.models.transformer import Encoded
from rljax.sampling.distribution import TokenFilter
from rljax.training.learner.group import Group, step_arrays, with_demonstrations
from rljax.training.learner.learner import Learner, running_of
from rljax.training.update.rows import rollout_rows
from rljax.training.update.state import TrainState

VOCAB, SLOTS, PROMPTS, SAMPLES = 3, 3, 2, 2
END = 2
STATES = 1 + VOCAB + VOCAB**2  # of a prompt, with room for one more token

PLAIN = TokenFilter()

Ends = Callable[[tuple[int, ...]], bool]  # whether a completion is over


def end_token(written: tuple[int, ...]) -> bool:
    """A token of the vocabulary ends completions."""
    return written[-1] == END


def never(written: tuple[int, ...]) -> bool:
    """The limit alone ends completions."""
    return False


def stop_string(written: tuple[int, ...]) -> bool:
    """Two tokens in a row end completions."""
    return written[-2:] == (0, 1)


def state_of(prompt: int, written: Sequence[int]) -> int:
    """The row of the table from which the next token is drawn."""
    place = sum((VOCAB**size for size in range(len(written))), 0)
    return prompt * STATES + place + sum(t * VOCAB**i for i, t in enumerate(reversed(written)))


class Model(NamedTuple):
    """The table with the calls of a transformer: a hidden state is a row of logits."""

    table: Array  # [PROMPTS * STATES, VOCAB]

    def __call__(
        self, tokens: Array, positions: Array, segment_ids: Array, shift: Array | None = None
    ) -> Encoded:
        """Rows of a prompt of one token, its number, and SLOTS tokens."""
        states, code = [tokens[:, 0] * STATES], 0
        for size in range(1, SLOTS):
            code = code * VOCAB + tokens[:, size]
            states.append(tokens[:, 0] * STATES + sum(VOCAB**s for s in range(size)) + code)
        states.append(states[-1])  # nothing is predicted from the last token
        return Encoded(self.table[jnp.stack(states, axis=1)], None)

    def vocabulary(self) -> Array:
        """Logits are the hidden states themselves."""
        return jnp.eye(VOCAB)


@dataclasses.dataclass(frozen=True)
class Tabular:
    """The network."""

    config: ModelConfig = ModelConfig(
        vocab_size=VOCAB, layers=1, width=VOCAB, heads=1, kv_heads=1, head_dim=2, mlp_width=2
    )

    def bind(self, params: dict) -> Model:
        """With its parameters."""
        return Model(params["table"])


def random_table(seed: int) -> np.ndarray:
    """[PROMPTS * STATES, VOCAB] f32 logits without ties."""
    return np.random.default_rng(seed).normal(size=(PROMPTS * STATES, VOCAB)).astype(np.float32)


class Completions(NamedTuple):
    """All K completions that can be written, the same after every prompt."""

    tokens: np.ndarray  # [K, SLOTS] i32
    mask: np.ndarray  # [K, SLOTS] bool
    finished: np.ndarray  # [K] bool

    @property
    def lengths(self) -> np.ndarray:
        """[K] i64."""
        return self.mask.sum(axis=1)


def completions(ends: Ends = end_token) -> Completions:
    """Every completion, each once."""
    found, open_ = [], [()]
    while open_:
        written = open_.pop()
        for token in range(VOCAB):
            longer = (*written, token)
            done = ends(longer)
            if done or len(longer) == SLOTS:
                found.append((longer, done))
            else:
                open_.append(longer)
    padded = [(*written, *[0] * (SLOTS - len(written))) for written, _ in found]
    mask = [np.arange(SLOTS) < len(written) for written, _ in found]
    return Completions(
        np.array(padded, np.int32), np.array(mask), np.array([done for _, done in found])
    )


# ------------------------------------------------------------- what is exact, in float64 numpy


def distribution(table: np.ndarray, token_filter: TokenFilter) -> np.ndarray:
    """[states, VOCAB] f64 probabilities under a filter, from its definition."""
    logits = table.astype(np.float64)
    for token, bias in token_filter.logit_bias:
        logits[:, token] += bias
    logits[:, list(token_filter.forbidden_tokens)] = -np.inf
    p = _softmax(logits / token_filter.temperature)
    order = np.argsort(-p, axis=1)
    rank = np.argsort(order, axis=1)
    if token_filter.top_k:
        p = _kept(p, rank < token_filter.top_k)
    if token_filter.top_p < 1:
        before = np.take_along_axis(p, order, 1).cumsum(axis=1) - np.take_along_axis(p, order, 1)
        p = _kept(p, np.take_along_axis(before, rank, 1) < token_filter.top_p)
    if token_filter.min_p:
        p = _kept(p, p >= token_filter.min_p * p.max(axis=1, keepdims=True))
    return p


def _softmax(logits: np.ndarray) -> np.ndarray:
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def _kept(p: np.ndarray, keep: np.ndarray) -> np.ndarray:
    p = np.where(keep, p, 0.0)
    return p / p.sum(axis=1, keepdims=True)


class Exact(NamedTuple):
    """Everything about a policy; P prompts, K completions, S states of the table, V tokens."""

    table: np.ndarray  # [S, V] f64 probabilities
    probability: np.ndarray  # [P, K] of each completion
    token_logprobs: np.ndarray  # [P, K, SLOTS], 0 outside the mask
    token_scores: np.ndarray  # [P, K, SLOTS, S * V], gradient of each of these
    states: np.ndarray  # [P, K, SLOTS] i64, that each token was drawn from

    @property
    def scores(self) -> np.ndarray:
        """[P, K, S * V], the gradient of the log-probability of each completion."""
        return self.token_scores.sum(axis=2)

    def gradient(self, values: np.ndarray) -> np.ndarray:
        """[S * V], of the mean over prompts of the expected value [P, K] of a completion.

        The values are constants; whatever else depends on the policy has a gradient of its own.
        """
        return np.einsum("pk,pk,pkd->d", self.probability, values, self.scores) / PROMPTS


def exact(table: np.ndarray, every: Completions, token_filter: TokenFilter = PLAIN) -> Exact:
    """The policy with a table of logits, under a filter whose kept tokens are constants."""
    p = distribution(table, token_filter)
    count, size = len(every.tokens), table.size
    states = np.zeros((PROMPTS, count, SLOTS), int)
    logprobs = np.zeros((PROMPTS, count, SLOTS))
    scores = np.zeros((PROMPTS, count, SLOTS, size))
    for prompt, k in itertools.product(range(PROMPTS), range(count)):
        for t in range(every.lengths[k]):
            state, token = state_of(prompt, every.tokens[k, :t]), every.tokens[k, t]
            states[prompt, k, t] = state
            with np.errstate(divide="ignore"):
                logprobs[prompt, k, t] = np.log(p[state, token])
            own = np.where(p[state] > 0, -p[state], 0.0)
            own[token] += 1.0
            scores[prompt, k, t, state * VOCAB : (state + 1) * VOCAB] = (
                own / token_filter.temperature
            )
    probability = np.exp(logprobs.sum(axis=2))
    possible = probability > 0
    logprobs = np.where(possible[..., None], logprobs, 0.0)
    scores = np.where(possible[..., None, None], scores, 0.0)
    return Exact(p, probability, logprobs, scores, states)


# ------------------------------------------------------- every batch, through the learner itself


def every_batch(policy: Exact) -> tuple[np.ndarray, np.ndarray]:
    """Every batch that can be sampled: completions [M, PROMPTS, SAMPLES], probabilities [M] f64."""
    pairs = []
    for prompt in range(PROMPTS):
        possible = np.flatnonzero(policy.probability[prompt])
        pairs.append(np.stack(np.meshgrid(possible, possible, indexing="ij"), -1).reshape(-1, 2))
    first, second = np.meshgrid(*(np.arange(len(pair)) for pair in pairs), indexing="ij")
    batches = np.stack([pairs[0][first.ravel()], pairs[1][second.ravel()]], axis=1)
    chances = policy.probability[np.arange(PROMPTS)[:, None], batches]
    return batches, chances.prod(axis=(1, 2))


def stage_of(method: str, objective: dict | None = None, **sections: dict) -> Stage:
    """A stage with the sizes of this file; `sections` are those of the config."""
    batch = {"prompts_per_step": PROMPTS, "samples_per_prompt": SAMPLES, "share_prompts": False}
    sampling = {"max_new_tokens": SLOTS, **sections.pop("sampling", {})}
    config = complete(
        {
            "stages": ("rl",),
            "data": {"tasks": ({"name": "chain_sum"},)},
            "rl": {
                "method": method,
                "objective": objective or {},
                "batch": {**batch, **sections.pop("batch", {})},
                "sampling": sampling,
                **sections,
            },
        }
    )
    return validate(config)[0]


class Given(NamedTuple):
    """What a step is given besides the batch; tables hold logits."""

    table: np.ndarray  # of the policy that learns
    every: Completions
    rewards: np.ndarray  # [P, K]
    correct: np.ndarray | None = None  # [P, K] bool; by default where the reward is 1
    reference: np.ndarray | None = None
    old: np.ndarray | None = None  # that the step started from, where it is another one
    behavior: np.ndarray | None = None  # that sampled, where it is not the old one
    shown: np.ndarray | None = None  # [P] the completion that is each prompt's demonstration
    carried: dict = {}  # noqa: RUF012 - running statistics; arrays [P, K] that others compute

    @property
    def started_from(self) -> np.ndarray:
        """The table of the old policy."""
        return self.table if self.old is None else self.old

    @property
    def sampled_from(self) -> np.ndarray:
        """The table of the policy that sampled."""
        return self.started_from if self.behavior is None else self.behavior


def update_gradients(stage: Stage, given: Given, batches: np.ndarray) -> np.ndarray:
    """The gradients of a step's updates, each taken at the policy that learns.

    Args:
        stage: whose objective is learned.
        given: the rest.
        batches: [M, PROMPTS, SAMPLES] completions.

    Returns:
        [M, U, S * V] f32.
    """
    learner = Learner.create(Tabular(), stage)
    own, old = ({"table": jnp.asarray(x)} for x in (given.table, given.started_from))
    reference = None if given.reference is None else {"table": jnp.asarray(given.reference)}
    update = learner.make_update(None, optimizer=keep_gradient())
    carried = {**learner.first_carried(old), **given.carried}
    moments, zero = jax.tree.map(jnp.zeros_like, own), jnp.zeros((), jnp.int32)
    state = TrainState(own, moments, zero, zero, zero, carried)

    def one(index: Array) -> Array:
        group = _group(stage, given, index)
        prompts = jnp.arange(PROMPTS, dtype=jnp.int32)[:, None]
        inputs = rollout_rows(
            prompts, jnp.ones_like(prompts, bool), group.tokens, group.mask, share_prompts=False
        )
        arrays = step_arrays(group)
        arrays |= learner.annotate(old, carried, reference, inputs, {})
        if "greedy_scores" in carried:
            arrays["greedy_scores"] = jnp.repeat(carried["greedy_scores"], SAMPLES)
        running = running_of(stage, carried)
        compared = learner.compare(arrays, running, zero, jax.random.key(0), 0)
        whole = learner.whole_batch(inputs, compared.trained)

        def gradient(order: Array) -> Array:
            part = jax.tree.map(lambda x: x[order], whole)
            return update(state, {}, part)[0].optimizer_state["table"].reshape(-1)

        return jnp.stack([gradient(order) for order in _orders(stage)])

    return _in_chunks(jax.jit(jax.vmap(one)), batches)


def _group(stage: Stage, given: Given, index: Array) -> Group:
    """The samples with these numbers [PROMPTS, SAMPLES], and demonstrations where there are any."""
    every = jax.tree.map(jnp.asarray, given.every)
    correct = given.rewards == 1 if given.correct is None else given.correct
    behavior = exact(given.sampled_from, given.every, stage.token_filter).token_logprobs
    row = jnp.arange(PROMPTS)[:, None]
    group = Group(
        tokens=every.tokens[index],
        mask=every.mask[index],
        logprobs=jnp.asarray(behavior, jnp.float32)[row, index],
        finished=every.finished[index],
        scores=jnp.asarray(given.rewards, jnp.float32)[row, index],
        correct=jnp.asarray(correct)[row, index],
    )
    if given.shown is None:
        return group
    scores = jnp.ones(PROMPTS)
    return with_demonstrations(group, every.tokens[given.shown], every.mask[given.shown], scores)


def _orders(stage: Stage) -> np.ndarray:
    """[updates, rows of an update], as they come."""
    rows = np.arange(stage.batch.sequences_per_step)
    once = rows.reshape(-1, stage.batch.sequences_per_update)
    return np.concatenate([once] * stage.batch.epochs_per_step)


def _in_chunks(function: Callable, batches: np.ndarray, size: int = 2**16) -> np.ndarray:
    """function(batches), so many at a time; the last chunk is filled up."""
    size = min(size, len(batches))
    found = []
    for start in range(0, len(batches), size):
        part = batches[start : start + size]
        filled = np.concatenate([part, np.repeat(part[-1:], size - len(part), axis=0)])
        found.append(np.asarray(function(jnp.asarray(filled)))[: len(part)])
    return np.concatenate(found)


def keep_gradient() -> optax.GradientTransformation:
    """An optimizer that moves nothing; its state is the latest gradient."""

    def update(gradient: dict, state: dict, params: dict | None = None) -> tuple[dict, dict]:
        return jax.tree.map(jnp.zeros_like, gradient), gradient

    return optax.GradientTransformation(lambda params: jax.tree.map(jnp.zeros_like, params), update)


def expected_step(stage: Stage, given: Given) -> np.ndarray:
    """[S * V] f64, what the updates of a step do on average: minus the gradient of the loss.

    Every batch counts with its probability under the policy that sampled, and the updates of a
    step are averaged. Training computes in float32; the sum over batches is of float64.
    """
    batches, chances = every_batch(exact(given.sampled_from, given.every, stage.token_filter))
    gradients = update_gradients(stage, given, batches)
    return -chances @ gradients.mean(axis=1).astype(np.float64)
