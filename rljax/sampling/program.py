"""The loops of the sampler: slots are filled, decoded a few steps, emptied, and filled again.

N = X * W rows at a time: W slots of each of X shards of rows. See slots.py and kv_cache.py for the
layouts, jobs.py for what a row begins with, step.py for a single token.
"""

import functools

import jax
import jax.numpy as jnp
from jax import Array

from rljax.models.decoding import by_shard, joined, pick
from rljax.parallel.rules import constrain
from rljax.sampling.jobs import where_rows
from rljax.sampling.request import Rollouts
from rljax.sampling.slots import (
    assign,
    collect,
    make_tiles,
    narrowed,
    ring_columns,
    slot_widths,
    tile_width,
)
from rljax.sampling.state import (
    RUNNING,
    Program,
    Results,
    Slots,
    State,
    empty_state,
    rollouts_of,
)
from rljax.sampling.step import choose_last, choose_tokens, decode_chosen

# Name of the loops over fillings of the slots in compiled programs; decoding is inside of them.
SLOTS = "slots"


def run(program: Program) -> Rollouts:
    """Samples everything that is asked for."""
    if program.config.lockstep:
        return rollouts_of(program, _in_lockstep(program, empty_state(program)))
    width = program.sizes.width
    widths = slot_widths(width, program.config.shrink)
    return rollouts_of(program, _phases(program, empty_state(program), widths))


def _in_lockstep(program: Program, state: State) -> Results:
    """All rows begin together and are decoded to the last token: no condition in the loop."""

    def step(_: Array, state: State) -> State:
        return decode_chosen(program, choose_tokens(program, state, None), None)

    state = _refill(program, state)
    state = jax.lax.fori_loop(0, program.config.max_new_tokens - 1, step, state)
    state = choose_tokens(program, state, None)
    return _write(program, state, ended=state.slots.request >= 0)


def _phases(program: Program, state: State, widths: tuple[int, ...]) -> Results:
    """Runs with the first width until the second one is enough, and so on."""
    sizes = program.sizes
    for width, following in zip(widths, (*widths[1:], 0), strict=True):
        if width < widths[0]:
            # Also where no row is left: a condition's branches would keep the wide caches beside
            # the narrow ones, while here one layer after the other is freed.
            state = _narrow(state, sizes.shards, width)
        in_order = width == sizes.width and not sizes.refills
        state = _phase(program, state, width, following, in_order)
        state = _collect_ended(program, state)
    return state.results


def _phase(program: Program, state: State, width: int, following: int, in_order: bool) -> State:
    """Runs until at most `following` rows of every shard are left, and none is in the queue.

    Args:
        program: what is run.
        state: with `width` slots a shard.
        following: slots of the next phase.
        in_order: whether slot b * G + g holds sample g of prompt b, now and later.
    """
    config, sizes = program.config, program.sizes
    steps = config.refill_every if sizes.refills else config.max_new_tokens

    def busy(state: State) -> Array:
        queue = state.head.min() < sizes.requests
        running = by_shard(state.slots.running, sizes.shards)
        return queue | (running.sum(axis=1).max() > following)

    def decoding(state: State) -> Array:
        """Whether some row needs more than one token."""
        slots = state.slots
        return jnp.any(slots.running & ~slots.last(config.max_new_tokens))

    def segment(state: State) -> State:
        state = _refill(program, _collect_ended(program, state))
        tiles = None
        if not in_order:
            width_of_tile = tile_width(config.samples_per_prompt, width)
            active = by_shard(state.slots.running, sizes.shards)
            prompt = by_shard(state.slots.job.prompt, sizes.shards)
            tiles = make_tiles(prompt, active, width_of_tile)

        def goes_on(carry: tuple[Array, State]) -> Array:
            done, state = carry
            return (done < steps) & decoding(state) & busy(state)

        def step(carry: tuple[Array, State]) -> tuple[Array, State]:
            done, state = carry
            return done + 1, decode_chosen(program, choose_tokens(program, state, tiles), tiles)

        _, state = jax.lax.while_loop(goes_on, step, (jnp.int32(0), state))
        # A row whose next token is certainly its last need not be decoded any more.
        return choose_last(program, state, ~decoding(state), tiles)

    with jax.named_scope(SLOTS):
        return jax.lax.while_loop(busy, segment, state)


def _refill(program: Program, state: State) -> State:
    """Gives free slots the next requests."""
    sizes, slots = program.sizes, state.slots
    split = functools.partial(by_shard, shards=sizes.shards)
    request, new, head = assign(split(slots.request), state.head, sizes.requests)
    job = jax.tree.map(lambda x: pick(x, jnp.maximum(request, 0)), program.jobs)
    begins = jax.tree.map(lambda x: joined(pick(x, job.prompt)), program.starts)
    lengths = tuple(joined(pick(split(prompts.lengths), job.prompt)) for prompts in program.prompts)
    new = joined(new)
    fresh = Slots(
        request=joined(request),
        job=jax.tree.map(joined, job),
        lengths=lengths,
        age=jnp.zeros_like(slots.age),
        taken=jnp.zeros_like(slots.taken),
        start=jnp.full_like(slots.start, state.column),
        reason=jnp.full_like(slots.reason, RUNNING),
        row=begins,
    )
    return state._replace(head=head, slots=_pinned(where_rows(new, fresh, slots)))


def _pinned(slots: Slots) -> Slots:
    """Keeps the hidden states split by rows."""
    hidden = tuple(constrain(x, "batch", "width") for x in slots.row.hidden)
    return slots._replace(row=slots.row._replace(hidden=hidden))


def _collect_ended(program: Program, state: State) -> State:
    """Moves what ended rows have written to the results, and frees their slots."""
    ended = (state.slots.request >= 0) & (state.slots.reason != RUNNING)
    write = functools.partial(_write, program, ended=ended)
    # Only the results pass through the branches: caches would be copied.
    results = jax.lax.cond(jnp.any(ended), write, lambda state: state.results, state)
    slots = state.slots._replace(request=jnp.where(ended, -1, state.slots.request))
    return state._replace(slots=slots, results=results)


def _write(program: Program, state: State, ended: Array) -> Results:
    """The results with those of the ended rows."""
    sizes, slots, results = program.sizes, state.slots, state.results
    split = functools.partial(by_shard, shards=sizes.shards)
    request = split(slots.request)
    place = ring_columns(split(slots.start), program.config.max_new_tokens, sizes.columns)
    tokens = jax.tree.map(
        lambda whole, ring: collect(whole, split(ring), request, place, split(ended)),
        results.tokens,
        state.ring,
    )
    at = jnp.where(split(ended), request, sizes.requests)
    put = jax.vmap(lambda whole, at, x: whole.at[at].set(x))
    return results._replace(
        tokens=tokens,
        lengths=put(results.lengths, at, split(slots.taken)),
        reasons=put(results.reasons, at, split(slots.reason)),
    )


def _narrow(state: State, shards: int, width: int) -> State:
    """Keeps `width` slots of each shard, among them all that are running."""
    kept = narrowed(by_shard(state.slots.running, shards), width)

    def keep(x: Array) -> Array:
        return joined(pick(by_shard(x, shards), kept))

    slots, caches, ring = jax.tree.map(keep, (state.slots, state.caches, state.ring))
    return state._replace(slots=slots, caches=caches, ring=ring)
