"""How often the loops of the sampler run, whose ends depend on lengths: all rows are full here.

Every prompt fills its slots, and every row has all its tokens, so rows that begin together end
together: each filling of the slots is decoded to the end, and no row is left for the narrow loops
that follow. What a row has in use of its cache grows from one column to all of them; loops and
kernels over it count with their mean over the steps. Masked diffusion takes all its steps.
"""

import math

from rljax.models.attention.ragged import KERNEL, block_columns
from rljax.models.config import ModelConfig
from rljax.models.decoding import OWN_LOOP, TILES_LOOP, own_block
from rljax.models.prefill import EARLIER, PREFILL, chunk_counts
from rljax.sampling.config import SamplingConfig
from rljax.sampling.diffusion import STEPS
from rljax.sampling.diffusion_config import DiffusionConfig
from rljax.sampling.program import SLOTS
from rljax.sampling.slots import slot_widths, tile_width
from rljax.sampling.state import Sizes


def sampler_loops(
    model: ModelConfig,
    config: SamplingConfig | DiffusionConfig,
    *,
    prompts: int,
    slots: int,
    shards: int,
    tensor: int = 1,
) -> dict[str, tuple[float, ...]]:
    """What `costs_of` is to assume of a sampler's loops, and of its kernel.

    Args:
        model: of the sampler.
        config: of the sampler.
        prompts: of a call.
        slots: of a prompt.
        shards: of rows.
        tensor: shards of the key-value heads.
    """
    if isinstance(config, DiffusionConfig):
        return {f"{STEPS}/while": (config.most_passes,)}
    blocks, chunks = chunk_counts(prompts, slots, shards, config.prefill_tokens)
    sizes = Sizes.of(config, prompts, shards)
    block = own_block(sizes.columns)
    kept = "int8" if config.cache_dtype == "int8" else model.compute_dtype
    read = block_columns(max(model.kv_heads // tensor, 1), sizes.columns, model.head_dim, kept)
    windows = [0 if whole else model.sliding_window for whole in model.global_layers]
    loops: dict[str, tuple[float, ...]] = {
        PREFILL: (blocks * chunks,),
        EARLIER: ((chunks - 1) / 2,) * model.layers,
        TILES_LOOP: (turns(sizes, config.samples_per_prompt),) * model.layers,
        OWN_LOOP: tuple(_blocks_in_use(config, sizes, block, each) for each in windows),
    }
    if not config.lockstep:
        loops[SLOTS] = _looks(config, sizes)
    share = read / sizes.columns
    shares = tuple(share * _blocks_in_use(config, sizes, read, each) for each in windows)
    return {f"{name}/while": numbers for name, numbers in loops.items()} | {
        f"{KERNEL}/pallas_call": shares
    }


def _looks(config: SamplingConfig, sizes: Sizes) -> tuple[float, ...]:
    """How often each of the loops over the slots looks for ended rows."""
    steps = config.refill_every if sizes.refills else config.max_new_tokens
    fillings = math.ceil(sizes.requests / sizes.width)
    widths = slot_widths(sizes.width, config.shrink)
    return (fillings * math.ceil(config.max_new_tokens / steps), *(0 for _ in widths[1:]))


def _blocks_in_use(config: SamplingConfig, sizes: Sizes, block: int, window: int) -> float:
    """Blocks of columns with anything that a row sees, the mean over its tokens."""
    total = 0.0
    for used in range(1, config.max_new_tokens + 1):
        reach = min(used, window) if window else used
        if sizes.refills:  # rows begin in any column: the mean over these
            blocks = (reach - 1) / block + 1
        else:
            blocks = (used - 1) // block - (used - reach) // block + 1
        total += min(blocks, sizes.columns // block)
    return total / config.max_new_tokens


def turns(sizes: Sizes, samples: int) -> float:
    """In how many turns the tiles of a filling of the slots are computed, on average."""
    width = tile_width(samples, sizes.width)
    per_turn = math.ceil(sizes.width / width)
    found = []
    for first in range(0, sizes.requests, sizes.width):
        requests = range(first, min(first + sizes.width, sizes.requests))
        of_prompts = [0] * sizes.prompts
        for request in requests:
            of_prompts[request // samples] += 1
        tiles = sum(math.ceil(count / width) for count in of_prompts)
        found.append(math.ceil(tiles / per_turn))
    return sum(found) / len(found)
