"""What is said of the sampler's loops, whose end depends on what is sampled."""

from rljax.planning.programs import sampler_loops
from rljax.sampling.config import SamplingConfig

LOOP = "jit(sample)/while"


def config(**fields):
    given = dict(samples_per_prompt=4, max_new_tokens=64, stop_tokens=(1,), pad_token=0)
    return SamplingConfig(**given, **fields)


def test_without_a_queue_all_tokens_are_one_filling():
    assert sampler_loops(config(shrink=()), 16, 2)[LOOP] == (1,)
    # 32 rows of a shard: the loops of 16 rows and of 8 have nothing left.
    assert sampler_loops(config(shrink=(2, 4)), 16, 2)[LOOP] == (1, 0, 0)


def test_with_a_queue_every_filling_is_decoded_to_the_end():
    # 32 rows of a shard in 8 slots, looked at every 4 tokens.
    found = sampler_loops(config(slots=16, refill_every=4, shrink=()), 16, 2)
    assert found[LOOP] == (4 * 16,)


def test_in_lockstep_the_program_knows_its_loops():
    assert sampler_loops(config(lockstep=True, shrink=()), 16, 2) == {}
