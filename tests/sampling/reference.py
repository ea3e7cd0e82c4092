"""A sampler without any cleverness, against which the real one is measured.

One row and one token at a time: the whole forward pass over everything so far, then the definitions
in float64. It shares the model's forward pass, `TokenAutomaton` tables and `jax.random` with the
sampler, and nothing else.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rljax.models.network import Network, Params
from rljax.sampling.automaton import TokenAutomaton
from rljax.sampling.config import SamplingConfig
from rljax.sampling.distribution import TokenFilter
from rljax.sampling.request import Requests, Rollouts, StopReason

# Rows are padded to a multiple of it, so that the forward pass compiles about once.
PADDED_SLOTS = 40

# [tokens so far] -> [V] f64, logits of what comes next.
Logits = Callable[[Sequence[int]], np.ndarray]
# (prompt, completion so far, logits of the policy [V]) -> [V] f64.
Combine = Callable[[list[int], list[int], np.ndarray], np.ndarray]


@dataclasses.dataclass
class Row:
    """One sample, from its first new token on."""

    tokens: list[int] = dataclasses.field(default_factory=list)
    reason: StopReason | None = None
    logprobs: list[float] = dataclasses.field(default_factory=list)
    model_logprobs: list[float] = dataclasses.field(default_factory=list)
    tempered_logprobs: list[float] = dataclasses.field(default_factory=list)
    entropy: list[float] = dataclasses.field(default_factory=list)
    temperature: list[float] = dataclasses.field(default_factory=list)
    margins: list[float] = dataclasses.field(default_factory=list)  # best score to the next best


@dataclasses.dataclass(frozen=True)
class Watch:
    """What ends rows beside stop tokens and lengths."""

    strings: tuple[bytes, ...] = ()
    token_bytes: tuple[bytes, ...] = ()
    constraint: TokenAutomaton | None = None


@functools.cache
def _forward(network: Network) -> Callable:
    def states(params: Params, tokens: Array, length: Array) -> Array:
        places = jnp.arange(tokens.shape[1])[None]
        model = network.bind(params)
        hidden = model(tokens, places, (places < length).astype(jnp.int32)).hidden
        last = hidden[0, length - 1]
        language = network.config.head == "language_model"
        return model.logits(last) if language else model.scores(last)

    return jax.jit(states)


def next_logits(network: Network, params: Params) -> Logits:
    """The whole forward pass over a row; [V] logits, or [O] scores of another head."""

    def logits(tokens: Sequence[int]) -> np.ndarray:
        slots = -(-len(tokens) // PADDED_SLOTS) * PADDED_SLOTS
        padded = np.zeros((1, slots), np.int32)
        padded[0, : len(tokens)] = tokens
        return np.float64(_forward(network)(params, padded, len(tokens)))

    return logits


@functools.partial(jax.jit, static_argnums=2)
def _gumbel(key: Array, index: int, count: int) -> Array:
    return jax.random.gumbel(jax.random.fold_in(key, index), (count,))


def _noise(key: Array, index: int, count: int) -> np.ndarray:
    return np.float64(_gumbel(key, index, count))


def log_softmax(x: np.ndarray) -> np.ndarray:
    """[V] f64 -> [V] f64; -inf stays -inf."""
    x = x - x.max()
    return x - np.log(np.exp(x).sum())


def entropy_of(log_p: np.ndarray) -> float:
    """In nats; -inf counts nothing."""
    kept = log_p[np.isfinite(log_p)]
    return float(-(np.exp(kept) * kept).sum())


def biased(logits: np.ndarray, token_filter: TokenFilter) -> np.ndarray:
    """With the filter's bias, -inf where forbidden."""
    logits = logits.copy()
    for token, bias in token_filter.logit_bias:
        logits[token] += bias
    logits[list(token_filter.forbidden_tokens)] = -np.inf
    return logits


def truncated(logits: np.ndarray, token_filter: TokenFilter) -> np.ndarray:
    """Tempered logits with -inf for what top_k, top_p and min_p exclude, by their definitions."""
    if 0 < token_filter.top_k < len(logits):
        logits = np.where(logits >= np.sort(logits)[-token_filter.top_k], logits, -np.inf)
    if token_filter.top_p < 1:
        p = np.exp(log_softmax(logits))
        order = np.argsort(-p, kind="stable")
        needed = np.searchsorted(np.cumsum(p[order]), token_filter.top_p - 1e-12) + 1
        logits = np.where(p >= p[order][needed - 1], logits, -np.inf)
    if token_filter.min_p > 0:
        p = np.exp(log_softmax(logits))
        logits = np.where(p >= token_filter.min_p * p.max(), logits, -np.inf)
    return logits


def penalised(
    logits: np.ndarray, prompt: list[int], completion: list[int], config: SamplingConfig
) -> np.ndarray:
    """With the penalties of repeated tokens, one token at a time."""
    penalties, logits = config.penalties, logits.copy()
    for token in range(len(logits)):
        times = completion.count(token)
        if times or token in prompt:
            positive = logits[token] > 0
            logits[token] *= 1 / penalties.repetition if positive else penalties.repetition
        logits[token] -= penalties.presence * (times > 0) + penalties.frequency * times
    return logits


def _gap(scores: np.ndarray) -> float:
    if len(scores) == 1:
        return np.inf
    second, best = np.sort(scores)[-2:]
    return float(best - second)


def drawn(log_p: np.ndarray, noise: Callable[[int], np.ndarray]) -> tuple[int, float]:
    """The block with the largest log mass + noise, in it the token with the largest sum.

    Returns:
        The token, and by how much its scores were the largest.
    """
    vocab = len(log_p)
    size = 1
    while size * size < vocab:
        size *= 2
    blocks = math.ceil(vocab / size)
    padded = np.full(blocks * size, -np.inf)
    padded[:vocab] = log_p
    padded = padded.reshape(blocks, size)
    gumbel = noise(blocks + size)
    with np.errstate(divide="ignore"):
        of_blocks = np.log(np.exp(padded).sum(axis=1)) + gumbel[:blocks]
    block = int(of_blocks.argmax())
    inside = padded[block] + gumbel[blocks:]
    return block * size + int(inside.argmax()), min(_gap(of_blocks), _gap(inside))


def _temperature(
    raw: np.ndarray,
    token_filter: TokenFilter,
    own: float | None,
    slopes: np.ndarray | None = None,
) -> float:
    rule, highest = token_filter.entropy_temperature, token_filter.temperature
    if slopes is not None:
        pivot, rise, fall, limit = (float(x) for x in slopes)
        distance = np.log(max(entropy_of(log_softmax(raw / highest)), 1e-6)) - pivot
        change = distance * (rise if distance > 0 else fall)
        return highest * (1 + min(max(change, -limit), limit))
    if own is not None or rule is None:
        return token_filter.temperature if own is None else float(own)
    spread = entropy_of(log_softmax(raw))
    return max(token_filter.temperature * rule.base ** (rule.theta / spread), rule.lowest)


class _Watcher:
    """The text since the last stop string, and the state of the constraint.

    A row that goes on though one of them has ended it begins anew with that one.
    """

    def __init__(self, watch: Watch):
        self.watch, self.text = watch, b""
        if watch.constraint is not None:
            self.table = np.asarray(watch.constraint.transitions)
            self.accepting = np.asarray(watch.constraint.accepting)
            self.state = self.start = int(watch.constraint.start_state)

    def add(self, token: int) -> tuple[bool, bool]:
        """Whether a stop string, and whether the constraint, ends here."""
        found = over = False
        if self.watch.strings:
            self.text += self.watch.token_bytes[token]
            found = any(string in self.text for string in self.watch.strings)
            self.text = b"" if found else self.text
        if self.watch.constraint is not None:
            following = int(self.table[self.state, token])
            self.state = self.state if following < 0 else following
            over = bool(self.accepting[self.state])
            self.state = self.start if over else self.state
        return found, over

    def allowed(self, vocab: int) -> np.ndarray:
        """[V] bool."""
        if self.watch.constraint is None:
            return np.ones(vocab, bool)
        return self.table[self.state] >= 0


def sample_row(
    logits: Logits,
    config: SamplingConfig,
    prompt: list[int],
    completion: list[int],
    key: Array,
    *,
    temperature: float | None = None,
    slopes: np.ndarray | None = None,
    least: int = 0,
    most: int | None = None,
    watch: Watch = Watch(),  # noqa: B008
    combine: Combine | None = None,
) -> Row:
    """Continues `completion`, perhaps empty, of `prompt` by at most T tokens.

    Args:
        logits: of the policy.
        config: static settings.
        prompt, completion: so far.
        key: of the row.
        temperature, slopes (of it), least, most: see `Requests`.
        watch: stop strings and constraint.
        combine: a guide.
    """
    row, watcher, done = Row(), _Watcher(watch), list(completion)
    most = len(done) + config.max_new_tokens if most is None else most
    for token in done:
        watcher.add(token)
    while row.reason is None:
        raw = logits([*prompt, *done])
        changed = raw if combine is None else combine(prompt, done, raw)
        if config.penalties.active:
            changed = penalised(changed, prompt, done, config)
        allowed = watcher.allowed(len(raw))
        later = allowed.copy()
        later[list(config.stop_tokens)] &= len(done) >= least
        changed = np.where(later if later.any() else allowed, changed, -np.inf)
        noise = functools.partial(_noise, key, len(done))
        used = _temperature(raw, config.token_filter, temperature, slopes)
        _choose(row, raw, changed, config.token_filter, used, noise)
        done.append(row.tokens[-1])
        row.reason = _reason(row, done, config, least, most, watcher)
    return row


def _choose(
    row: Row,
    raw: np.ndarray,
    changed: np.ndarray,
    token_filter: TokenFilter,
    used: float,
    noise: Callable[[int], np.ndarray],
) -> None:
    logits = biased(changed, token_filter)
    if used == 0:
        token, margin = int(logits.argmax()), _gap(logits)
        logprob = tempered = spread = 0.0
    else:
        log_p = log_softmax(truncated(logits / used, token_filter))
        token, margin = drawn(log_p, noise)
        logprob, spread = log_p[token], entropy_of(log_p)
        tempered = log_softmax(raw / used)[token]
    row.tokens.append(token)
    row.margins.append(margin)
    row.logprobs.append(logprob)
    row.model_logprobs.append(log_softmax(raw)[token])
    row.tempered_logprobs.append(tempered)
    row.entropy.append(spread)
    row.temperature.append(used)


def _reason(
    row: Row,
    done: list[int],
    config: SamplingConfig,
    least: int,
    most: int,
    watcher: _Watcher,
) -> StopReason | None:
    """Why the row ends with its latest token; the first that holds."""
    found, over = watcher.add(done[-1])
    if done[-1] in config.stop_tokens:
        return StopReason.STOP_TOKEN
    if over:
        return StopReason.CONSTRAINT
    if found and len(done) >= least:
        return StopReason.STOP_STRING
    if len(done) >= most:
        return StopReason.LENGTH
    return StopReason.PAUSED if len(row.tokens) >= config.max_new_tokens else None


def row_key(key: Array, step: int, prompt_id: int, sample_id: int) -> Array:
    """The key of a row, from the key of a stream."""
    for number in (step, prompt_id, sample_id):
        key = jax.random.fold_in(key, number)
    return key


def sample_all(
    logits: Logits,
    config: SamplingConfig,
    requests: Requests,
    key: Array,
    step: int,
    *,
    watch: Watch = Watch(),  # noqa: B008
    combine: Combine | None = None,
) -> list[list[Row]]:
    """Rows [B][G] of NumPy requests, each by itself."""
    rows = []
    for b, (tokens, mask) in enumerate(zip(requests.prompts, requests.prompt_mask, strict=True)):
        tokens = [int(token) for token in tokens[mask]]
        split = len(tokens) - (0 if requests.continued is None else int(requests.continued[b]))
        of_prompt = []
        for g in range(config.samples_per_prompt):
            given = {
                "temperature": requests.temperature,
                "least": requests.min_new_tokens,
                "most": requests.max_new_tokens,
            }
            own = {name: x[b, g].item() for name, x in given.items() if x is not None}
            if requests.temperature_slopes is not None:
                own["slopes"] = requests.temperature_slopes[b]
            sample_id = g if requests.sample_ids is None else int(requests.sample_ids[b, g])
            address = row_key(key, step, int(requests.prompt_ids[b]), sample_id)
            of_prompt.append(
                sample_row(
                    logits,
                    config,
                    tokens[:split],
                    tokens[split:],
                    address,
                    watch=watch,
                    combine=combine,
                    **own,
                )
            )
        rows.append(of_prompt)
    return rows


STATISTICS = ("logprobs", "model_logprobs", "tempered_logprobs", "entropy", "temperature")
CLOSE = 1e-4  # two scores that float32 need not tell apart


def compare(
    rollouts: Rollouts, rows: list[list[Row]], config: SamplingConfig, tolerance: float = 1e-5
) -> int:
    """Asserts that rollouts equal the reference.

    Returns:
        How many rows are compared up to some token only, where the two best scores were close.
    """
    close = 0
    for b, of_prompt in enumerate(rows):
        for g, row in enumerate(of_prompt):
            fields = ("tokens", "mask", "stop_reason", *STATISTICS)
            found = {name: getattr(rollouts, name)[b, g] for name in fields}
            close += _compare_row(found, row, config, tolerance)
    return close


def _compare_row(
    found: dict[str, np.ndarray], row: Row, config: SamplingConfig, tolerance: float
) -> bool:
    count = int(found["mask"].sum())
    np.testing.assert_array_equal(found["mask"], np.arange(config.max_new_tokens) < count)
    assert (found["tokens"][count:] == config.pad_token).all()
    tokens = found["tokens"][:count].tolist()
    until = next((t for t, m in enumerate(row.margins) if m < CLOSE), len(row.tokens))
    cut = tokens != row.tokens and until < len(row.tokens)
    if cut:
        assert tokens[:until] == row.tokens[:until]
    else:
        assert (tokens, found["stop_reason"]) == (row.tokens, row.reason)
        until = count
    for name in STATISTICS:
        np.testing.assert_allclose(
            found[name][:until],
            getattr(row, name)[:until],
            rtol=0,
            atol=tolerance,
            err_msg=name,
        )
        np.testing.assert_array_equal(found[name][count:], 0, err_msg=name)
    return cut
