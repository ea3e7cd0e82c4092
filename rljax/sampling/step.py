"""One token more: the choice, what it ends, and its way through the models."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from rljax.models.decoding import Own, Tiles, decode, peek
from rljax.sampling.choose import Choice, choose, penalised
from rljax.sampling.jobs import Starts, advance_and_look
from rljax.sampling.request import StopReason
from rljax.sampling.state import RUNNING, Program, Slots, State


def choose_tokens(program: Program, state: State, tiles: Tiles | None) -> State:
    """The next token of every running row, into the ring; ends rows."""
    choice, logits = _draw(program, state, tiles)
    return _record(program, state, choice, logits)


def _draw(program: Program, state: State, tiles: Tiles | None) -> tuple[Choice, tuple]:
    """One choice for every row, and the logits of the models."""
    config, slots = program.config, state.slots
    heads = ("language_model",) if program.guide is None else program.guide.heads
    logits = tuple(
        decoder.model.logits(hidden)
        for decoder, hidden, head in zip(program.decoders, slots.row.hidden, heads, strict=True)
        if head == "language_model"
    )
    adjusted = logits[0]
    if program.guide is not None:
        glance = _glance(program, state, tiles)
        adjusted = program.guide.combine(logits, slots.row.guide, glance)
    if config.penalties.active:
        adjusted = penalised(adjusted, slots.row.seen, config.penalties)
    written = slots.job.continued + slots.age
    choice = choose(
        logits[0],
        adjusted,
        jax.vmap(jax.random.fold_in)(slots.job.key, written),
        config.token_filter,
        temperature=slots.job.temperature,
        slopes=slots.job.slopes,
        allowed=_allowed(program, written, slots),
        top_k=config.top_logprobs,
    )
    return choice, logits


def _allowed(program: Program, written: Array, slots: Slots) -> Array | None:
    """[N, V] bool, what may come next; None: everything."""
    allowed = None
    for watcher, state in zip(program.watchers, slots.row.watched, strict=True):
        mask = None if watcher is None else watcher.allowed(state)
        if mask is not None:
            allowed = mask if allowed is None else allowed & mask
    if slots.job.least is None:
        return allowed
    vocab = jnp.arange(program.decoders[0].config.vocab_size)
    stops = jnp.isin(vocab, jnp.array(program.config.stop_tokens))
    later = ~(stops & (written < slots.job.least)[:, None])
    if allowed is None:
        return later
    # A constraint under which a row has to stop now comes before its wanted length.
    both = allowed & later
    return jnp.where(both.any(axis=1, keepdims=True), both, allowed)


def _glance(program: Program, state: State, tiles: Tiles | None) -> Callable[[int, Array], Array]:
    """(model, candidates [N, k]) -> scores [N, k] of the model's head after each candidate."""
    slots = state.slots

    def scores(model: int, candidates: Array) -> Array:
        decoder = program.decoders[model]
        own = _own(state)
        positions = slots.lengths[model] + slots.age
        hidden = peek(
            decoder,
            candidates,
            positions,
            program.prompts[model],
            tiles,
            own,
            state.caches[model],
        )
        return decoder.model.scores(hidden)[..., 0]

    return scores


def _record(program: Program, state: State, choice: Choice, logits: tuple) -> State:
    """Writes a choice into the ring and advances what watches the rows; no age changes."""
    config, slots = program.config, state.slots
    running = slots.running
    tokens = jnp.where(running, choice.tokens, config.pad_token)
    ring = jax.tree.map(
        lambda buffer, x: jax.lax.dynamic_update_slice_in_dim(
            buffer, x[:, None], state.column, axis=1
        ),
        state.ring,
        choice._replace(tokens=tokens),
    )
    row, reason = _watch(program, slots, tokens, logits)
    slots = slots._replace(
        taken=slots.taken + running,
        reason=jnp.where(running, reason, slots.reason),
        row=row,
    )
    steps = state.results.slot_steps + len(tokens) // program.sizes.shards
    return state._replace(ring=ring, slots=slots, results=state.results._replace(slot_steps=steps))


def _watch(program: Program, slots: Slots, tokens: Array, logits: tuple) -> tuple[Starts, Array]:
    """What follows the tokens [N], and why each row ends with them: StopReason or RUNNING."""
    config, row = program.config, slots.row
    count = slots.job.continued + slots.age + 1
    enough = True if slots.job.least is None else count >= slots.job.least
    reason = jnp.where(slots.age + 1 >= config.max_new_tokens, StopReason.PAUSED, RUNNING)
    reason = jnp.where(count >= slots.job.most, StopReason.LENGTH, reason)
    text, constraint = row.watched
    if program.watchers[0] is not None:
        text, found = advance_and_look(program.watchers[0], text, tokens)
        reason = jnp.where(found & enough, StopReason.STOP_STRING, reason)
    if program.watchers[1] is not None:
        constraint, over = advance_and_look(program.watchers[1], constraint, tokens)
        reason = jnp.where(over, StopReason.CONSTRAINT, reason)
    # Before its wanted length a row takes a stop token only if it has to.
    stopped = jnp.isin(tokens, jnp.array(config.stop_tokens, jnp.int32))
    reason = jnp.where(stopped, StopReason.STOP_TOKEN, reason)
    guide_state, seen = row.guide, row.seen
    if program.guide is not None:
        guide_state = program.guide.advance(logits, guide_state, tokens)
    if seen is not None:
        seen = seen._replace(written=seen.written.at[jnp.arange(len(tokens)), tokens].add(1))
    row = row._replace(watched=(text, constraint), guide=guide_state, seen=seen)
    return row, reason


def decode_chosen(program: Program, state: State, tiles: Tiles | None) -> State:
    """Runs the tokens at the current column through all models.

    Ended rows go along: nothing reads what becomes of them, and their ring holds `refill_every`
    columns more than a row can fill.
    """
    slots = state.slots
    tokens = jax.lax.dynamic_index_in_dim(state.ring.tokens, state.column, 1, keepdims=False)
    own = _own(state)
    hidden, caches = [], []
    for decoder, prompts, lengths, cache in zip(
        program.decoders, program.prompts, slots.lengths, state.caches, strict=True
    ):
        positions = lengths + slots.age
        found, cache = decode(decoder, tokens, positions, prompts, tiles, own, cache)
        hidden.append(found)
        caches.append(cache)
    row = slots.row._replace(hidden=tuple(hidden))
    return state._replace(
        column=(state.column + 1) % program.sizes.columns,
        slots=slots._replace(age=slots.age + 1, row=row),
        caches=tuple(caches),
    )


def _own(state: State) -> Own:
    """Where the tokens of the rows lie; rows without a token to come read next to nothing."""
    age = jnp.where(state.slots.running, state.slots.age, 0)
    return Own(state.column, age, age.max() + 1)


def choose_last(program: Program, state: State, only_last: Array, tiles: Tiles | None) -> State:
    """If no running row needs more than one token, chooses those."""
    # Only the small parts of the state pass through the branches: caches would be copied.
    caches = state.caches

    def choose_them(small: State) -> State:
        chosen = choose_tokens(program, small._replace(caches=caches), tiles)
        return chosen._replace(caches=())

    needed = only_last & jnp.any(state.slots.running)
    small = jax.lax.cond(needed, choose_them, lambda small: small, state._replace(caches=()))
    return small._replace(caches=caches)
