"""What is said of the sampler's loops, whose end depends on what is sampled."""

from rljax.models.config import ModelConfig
from rljax.planning.sampler_loops import sampler_loops
from rljax.sampling.config import SamplingConfig
from rljax.sampling.diffusion_config import DiffusionConfig

MODEL = dict(vocab_size=64, layers=2, width=16, heads=2, kv_heads=2, mlp_width=16, head_dim=128)


def loops(config=(), prompt_slots=16, model=()):
    """For 16 prompts of 4 samples, 64 tokens each, on two shards of rows."""
    given = dict(samples_per_prompt=4, max_new_tokens=64, stop_tokens=(1,), pad_token=0, shrink=())
    return sampler_loops(
        ModelConfig(**MODEL | dict(model)),
        SamplingConfig(**given | dict(config)),
        prompts=16,
        slots=prompt_slots,
        shards=2,
    )


def test_without_a_queue_all_tokens_are_one_filling():
    assert loops()["slots/while"] == (1,)
    # 32 rows of a shard: the loops of 16 rows and of 8 have nothing left.
    assert loops(dict(shrink=(2, 4)))["slots/while"] == (1, 0, 0)


def test_with_a_queue_every_filling_is_decoded_to_the_end():
    # 32 rows of a shard in 8 slots, looked at every 4 tokens.
    found = loops(dict(slots=16, refill_every=4))
    assert found["slots/while"] == (4 * 16,)
    # 8 rows of 2 prompts are 2 tiles of 4 rows, which are computed in one turn.
    assert found["tiles/while"] == (1, 1)
    # 10 rows of 3 or 4 prompts, in turns of 3 tiles: 4+4+2, 2+4+4, 4+4+2, and the last 2.
    assert loops(dict(slots=20, refill_every=4))["tiles/while"] == (1, 1)
    # 6 rows in turns of 2 tiles: 4+2, 2+4, ...; never more than two prompts.
    assert loops(dict(slots=12, refill_every=4))["tiles/while"] == (1, 1)
    # 3 rows in turns of one tile: 3, 1+2, 2+1, 3, ... and the last 2: 11 fillings, 16 tiles.
    assert loops(dict(slots=6, refill_every=4))["tiles/while"] == (16 / 11, 16 / 11)


def test_in_lockstep_the_program_knows_its_loops():
    assert "slots/while" not in loops(dict(lockstep=True))


def test_prompts_are_computed_in_chunks():
    # 8 prompts of a shard, 1024 slots: 4 chunks of 256 columns for blocks of 4 prompts.
    found = loops(dict(prefill_tokens=1024), prompt_slots=1024)
    assert found["prefill/while"] == (2 * 4,)
    # The chunks see 0, 1, 2 and 3 chunks before them.
    assert found["earlier_chunks/while"] == (1.5, 1.5)


def test_blocks_of_the_cache_come_into_use_one_after_the_other():
    # 256 tokens in blocks of 64 columns: 1, 2, 3 and 4 of them are in use for 64 steps each.
    longer = dict(max_new_tokens=256)
    assert loops(longer)["own_blocks/while"] == (2.5, 2.5)
    # A window of 64 columns lies in one block at its end, and in two at its other places.
    window = dict(sliding_window=64, global_every=2)
    local, whole = loops(longer, model=window)["own_blocks/while"]
    assert whole == 2.5
    assert local == (64 + 3 * (63 * 2 + 1)) / 256


def test_the_kernel_reads_the_blocks_in_use():
    # Two heads of 128 numbers in bfloat16 or more: 256 columns are one block of 128 KiB or two.
    for dtype, blocks in (("float32", 2), ("bfloat16", 1)):
        found = loops(dict(max_new_tokens=256), model=dict(dtype=dtype))
        mean = (1 + blocks) / 2 / blocks
        assert found["ragged_decode/pallas_call"] == (mean, mean)


def test_masked_diffusion_skips_steps_that_would_fill_nothing():
    def passes(steps):
        config = DiffusionConfig(
            samples_per_prompt=4,
            max_new_tokens=64,
            block_tokens=8,
            steps=steps,
            mask_token=2,
            stop_tokens=(1,),
            pad_token=0,
        )
        model = ModelConfig(**MODEL, causal=False, mask_token=2)
        return sampler_loops(model, config, prompts=16, slots=16, shards=2)

    assert passes(32) == {"denoising/while": (32,)}
    # Eight blocks of eight positions, in sixteen steps each.
    assert passes(128) == {"denoising/while": (64,)}
