"""Random requests to random programs of the sampler, against the plain reference."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from rljax.models import decoding, prefill
from rljax.models.network import Network
from rljax.parallel.mesh import make_mesh
from rljax.parallel.rules import put_rows
from rljax.sampling import program, slots, state
from rljax.sampling.automaton import FORBIDDEN, TokenAutomaton
from rljax.sampling.choose import Penalties
from rljax.sampling.config import SamplingConfig
from rljax.sampling.distribution import EntropyTemperature
from rljax.sampling.request import Requests, StopReason
from rljax.sampling.sampler import make_sampler
from rljax.sampling.stop_strings import stop_string_automaton
from tests.sampling import reference
from tests.sampling.tiny import KEY, VOCABULARY, config_of, network_of, params_of

NETWORKS = (
    dict(),
    dict(tied_embeddings=True, kv_heads=4, query_key_norm="head", attention_bias=True),
    dict(layers=2, sliding_window=3, global_every=2, attention_softcap=4.0, logit_softcap=6.0),
    dict(sliding_window=5, kv_heads=1, norm_placement="both", embedding_scale=4.0),
    dict(layers=2, sliding_window=4, global_every=2, local_rope_base=100.0, kv_heads=1),
    dict(experts=3, experts_per_token=2, expert_width=12),
)
WORDS = ("abc", "ca", "bb", "caa", "acb")
TOKEN_BYTES = (b"", b"", b"", b"a", b"b", b"c", b"ab", b"bc", b"ca", b"", b"aa", b"cb", b"a")


@dataclasses.dataclass(frozen=True)
class Static:
    """What selects a program, and which optional fields its requests have."""

    network: Network
    config: SamplingConfig
    prompts: int
    slots: int  # P
    strings: tuple[str, ...]
    constrained: bool
    fields: tuple[str, ...]


def random_filter(rng: np.random.Generator, own_temperature: bool) -> dict[str, Any]:
    fields: dict[str, Any] = dict(temperature=rng.uniform(0.6, 1.5))
    choices = [dict(), dict(top_k=4), dict(top_p=0.8), dict(min_p=0.1)]
    fields |= choices[rng.integers(4)] | choices[rng.integers(4)]
    if rng.random() < 0.3:
        bias, forbidden = ((5, 1.5), (STOPS[0], -1.0)), (int(rng.integers(3, VOCABULARY)),)
        fields |= dict(logit_bias=bias, forbidden_tokens=forbidden)
    if not own_temperature and rng.random() < 0.3:
        fields |= dict(entropy_temperature=EntropyTemperature(theta=0.5, lowest=0.5))
    return fields


STOPS = (2, 9)


def random_static(rng: np.random.Generator, shards: int = 1) -> Static:
    def one_in(n):
        return bool(rng.random() < 1 / n)

    wanted = dict(
        temperature=one_in(3),
        min_new_tokens=one_in(3),
        max_new_tokens=one_in(2),
        sample_ids=one_in(3),
        continued=one_in(3),
    )
    group, prompts = int(rng.integers(1, 5)), int(rng.integers(1, 5)) * shards
    penalties = Penalties(repetition=1.4, presence=0.3, frequency=0.2) if one_in(3) else Penalties()
    config = config_of(
        samples_per_prompt=group,
        max_new_tokens=int(rng.integers(3, 12)),
        stop_tokens=STOPS[: rng.integers(1, 3)],
        pad_token=int(rng.choice([0, 2])),
        slots=int(rng.integers(0, prompts * group + 1)),
        refill_every=int(rng.integers(1, 6)),
        shrink=((), (2,), (2, 4))[rng.integers(3)],
        prefill_tokens=int(rng.choice([1, 5, 9, 1000])),
        penalties=penalties,
        **random_filter(rng, wanted["temperature"]),
    )
    return Static(
        network=network_of(**NETWORKS[rng.integers(len(NETWORKS))]),
        config=config,
        prompts=prompts,
        slots=int(rng.integers(2, 12)),
        strings=tuple(rng.choice(WORDS, 2, replace=False).tolist()) if one_in(3) else (),
        constrained=one_in(3),
        fields=tuple(name for name, is_wanted in wanted.items() if is_wanted),
    )


def random_requests(rng: np.random.Generator, static: Static) -> Requests:
    config, prompts = static.config, static.prompts
    shape = (prompts, config.samples_per_prompt)
    lengths = rng.integers(1, static.slots + 1, prompts)
    continued = rng.integers(0, np.minimum(lengths, 5)) * ("continued" in static.fields)
    most = continued[:, None] + rng.integers(1, config.max_new_tokens + 4, shape)
    if "max_new_tokens" not in static.fields:
        most = np.broadcast_to(continued[:, None] + config.max_new_tokens, shape)
    temperature = rng.uniform(0.5, 1.5, shape)
    if not config.token_filter.truncates:
        temperature *= rng.random(shape) < 0.7
    values = dict(
        temperature=temperature.astype(np.float32),
        min_new_tokens=rng.integers(0, most + 1),
        max_new_tokens=most,
        sample_ids=rng.integers(0, 1000, shape),
        continued=continued,
    )

    def ints(x):
        return x if x.dtype == np.float32 else x.astype(np.int32)

    return Requests(
        rng.integers(0, VOCABULARY, (prompts, static.slots)).astype(np.int32),
        np.arange(static.slots) >= static.slots - lengths[:, None],
        rng.integers(0, 1000, prompts).astype(np.int32),
        **{name: ints(values[name]) for name in static.fields},
    )


def random_constraint(rng: np.random.Generator) -> TokenAutomaton:
    """Four states, the last of them accepting and rare; each other one allows seven tokens."""
    table = rng.integers(0, 3, (4, VOCABULARY))
    for row in table:
        row[rng.choice(VOCABULARY, 6, replace=False)] = FORBIDDEN
        row[rng.choice(np.flatnonzero(row != FORBIDDEN))] = 3
    return TokenAutomaton.create(table, np.arange(4) == 3)


def check_program(seed: int, requests: int, mesh: Mesh | None = None) -> tuple[int, int, set[int]]:
    """Compares some requests; returns rows, rows with a close choice, and reasons."""
    rng = np.random.default_rng(seed)
    static = random_static(rng, shards=1 if mesh is None else 2)
    network, config = static.network, static.config
    params = params_of(network)
    run = jax.jit(make_sampler(network, config))
    logits = reference.next_logits(network, params)
    strings = tuple(text.encode() for text in static.strings)
    automaton = stop_string_automaton(static.strings, TOKEN_BYTES) if strings else None
    rows, close, reasons = 0, 0, set()
    for step in range(requests):
        asked = random_requests(rng, static)
        constraint = random_constraint(rng) if static.constrained else None
        watch = reference.Watch(strings, TOKEN_BYTES, constraint)
        expected = reference.sample_all(logits, config, asked, KEY, step, watch=watch)
        given = dict(stop_strings=automaton, constraint=constraint)
        if mesh is None:
            found = run(params, asked, KEY, jnp.int32(step), **given)
        else:
            with jax.set_mesh(mesh):
                placed = jax.device_put(params, network.shardings(mesh))
                found = run(placed, put_rows(asked, mesh), KEY, jnp.int32(step), **given)
        found = jax.device_get(found)
        close += reference.compare(found, expected, config)
        rows += found.stop_reason.size
        reasons |= set(found.stop_reason.ravel().tolist())
    return rows, close, reasons


@pytest.fixture
def small_blocks(monkeypatch):
    """Chunks of prompts and blocks of the ring of 4 columns, tiles of 3 rows, 2 slots and more."""
    monkeypatch.setattr(prefill, "CHUNK_COLUMNS", 4)
    monkeypatch.setattr(decoding, "OWN_BLOCK", 4)
    monkeypatch.setattr(state, "OWN_BLOCK", 4)
    monkeypatch.setattr(slots, "TILE_ROWS", 3)
    widths = functools.partial(slots.slot_widths, smallest=2)
    monkeypatch.setattr(program, "slot_widths", widths)


# Found by search: between them the programs refill, shrink, continue and so on, with and without
# each other, on most of the networks.
SEEDS = (0, 162, 164, 216, 343)


@pytest.mark.parametrize("seed", SEEDS)
def test_random_requests_equal_the_reference(small_blocks, seed):
    rows, close, _ = check_program(seed, requests=8)
    assert close <= rows / 100


@pytest.mark.parametrize(
    "programs",
    [pytest.param(25, marks=pytest.mark.slow), pytest.param(75, marks=pytest.mark.long)],
)
def test_hundreds_of_random_requests_equal_the_reference(small_blocks, capsys, programs):
    mesh = make_mesh({"data": 2}, devices=jax.devices()[:2])
    requests, rows, close, reasons = 0, 0, 0, set()
    for seed in range(1000, 1000 + programs):
        found = check_program(seed, requests=4, mesh=mesh if seed % 5 == 0 else None)
        requests, rows, close = requests + 4, rows + found[0], close + found[1]
        reasons |= found[2]
    with capsys.disabled():
        print(f"\n{requests} requests, {rows} rows, {close} of them with a close choice")
    assert close <= max(1, rows / 1000)
    assert reasons == set(StopReason)
