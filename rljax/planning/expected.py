"""How long an update is expected to take: products, attention and what lies between, in turn.

A roofline lets everything hide behind its longest term. A core of a TPU does one thing after
another: the time of products of matrices, of attention and of elementwise work adds up, and only
exchanges hide behind their sum. These terms have no fitted number. What is expected divides them by
an efficiency, one for training and one for sampling, from published measurements (trust.py).
"""

from collections.abc import Mapping
from typing import Any

from rljax.planning.ahead import split_times
from rljax.planning.analytic import Layout, forwards_of, tokens_of, training_links
from rljax.planning.chips import Topology
from rljax.planning.program import SAMPLERS

# Least / measured over all published cases, as `python launch/plan.py --trust=none` prints them.
TRAINING, SAMPLING = 0.769, 0.605
# Side of a chip's arrays for products, in numbers: https://cloud.google.com/tpu/docs/v6e, and
# https://jax-ml.github.io/scaling-book/tpus. Heads that are narrower leave a part of it idle.
ARRAYS = {"v4": 128, "v5e": 128, "v5p": 128, "v6e": 256}
# Products of scores' size of attention: two forward; backward five, as scores are computed again.
FORWARD_PRODUCTS, BACKWARD_PRODUCTS = 2, 5
# The backward pass of elementwise work reads what went in and what comes back, and writes as much.
BACKWARD_SWEEPS = 2
# Logits in float32 are written and read, forward and backward.
LOGITS_BYTES = 4 * 4


def update_terms(work: Mapping[str, Any], layout: Layout, topology: Topology) -> dict[str, float]:
    """Seconds of all updates of a step by what takes them: products, attention, between, links.

    Every layer is taken for one that sees everything before it; blocks of attention on the diagonal
    count half.

    Args:
        work: what the stage asks (workload.py).
        layout: of the trainer.
        topology: the slice.
    """
    chip, chips = topology.chip, topology.count - layout.sampler_devices
    forwards, updates = forwards_of(work, layout.remat), work["updates"]
    attention = forward_attention(work)
    matrices = work["update_flops"] / 3 - attention
    executed = (FORWARD_PRODUCTS * forwards + BACKWARD_PRODUCTS) / FORWARD_PRODUCTS
    used = min(1.0, work["head_dim"] / ARRAYS[topology.kind])
    parts = work["sequences_per_update"] / layout.micro
    return {
        "products": updates * matrices * (forwards + 2) / chips / chip.flops,
        "attention": updates * attention * executed / used / chips / chip.flops,
        "between": updates * between_bytes(work, forwards) / chips / chip.hbm_bandwidth,
        "links": training_links(work, layout, topology, parts, 0.0),
    }


def update_seconds(terms: Mapping[str, float]) -> float:
    """Terms of an update put together: links hide behind all others."""
    return max(terms["products"] + terms["attention"] + terms["between"], terms["links"])


def expected_step(plan: Mapping[str, Any], topology: Topology) -> dict[str, Any]:
    """What a plan's step is expected to take: all phases in turn, or the longer side of a split.

    An update by its terms, and no less than the roofline of what was compiled; decoding by its
    roofline over the efficiency of sampling; any other phase, forward passes as those of masked
    diffusion are, by its roofline over that of training.

    Args:
        plan: of a run that compiles (plan.py).
        topology: the slice.

    Returns:
        expected_seconds: by phase; expected_step_seconds: of a step.
    """
    work = plan["workload"]
    layout = Layout(
        mesh=plan["mesh"],
        remat=work["remat"],
        micro=work["sequences_per_micro_batch"],
        sampler_devices=work["sampler_devices"],
    )
    decoding = () if work["denoising"] else SAMPLERS
    seconds = {
        name: phase["seconds"] / (SAMPLING if name in decoding else TRAINING)
        for name, phase in plan["phases"].items()
    }
    if "update" in seconds:
        by_terms = update_seconds(update_terms(work, layout, topology)) / TRAINING
        seconds["update"] = max(by_terms, plan["phases"]["update"]["seconds"])
    sides = split_times(
        {name: {**plan["phases"][name], "seconds": each} for name, each in seconds.items()},
        plan["split"],
        topology,
    )
    step = sum(seconds.values()) if sides is None else sides["step_seconds"]
    return {"expected_seconds": seconds, "expected_step_seconds": step}


def forward_attention(work: Mapping[str, Any]) -> float:
    """Operations of scores and mixing of an update's sequences, forward."""
    sequences, prompt, new = work["sequences_per_update"], work["prompt"], work["completion"]
    numbers = 4.0 * work["layers"] * work["heads"] * work["head_dim"]
    if work["both_ways"]:
        return numbers * work["draws"] * sequences * (prompt + new) ** 2
    copies = sequences / work["samples"] if work["shared"] else sequences
    pairs = copies * prompt * (prompt + 1) / 2
    pairs += sequences * (new * prompt + new * (new + 1) / 2)
    return numbers * pairs


def between_bytes(work: Mapping[str, Any], forwards: int) -> float:
    """Bytes that elementwise work of an update reads and writes, on all chips.

    In a layer: two norms (read and write), two sums (read two, write one), rotary positions of
    queries and keys, the gate's product (read two, write one).
    """
    turned = (work["heads"] + work["kv_heads"]) * work["head_dim"]
    hidden = work["hidden"] * max(work["experts_per_token"], 1)
    layer = (10 * work["width"] + 2 * turned + 3 * hidden) * work["activation_bytes"]
    tokens = work["draws"] * tokens_of(work, work["sequences_per_update"])
    learned = work["draws"] * work["sequences_per_update"] * work["completion"]
    sweeps = forwards + BACKWARD_SWEEPS
    return tokens * work["layers"] * layer * sweeps + learned * work["vocabulary"] * LOGITS_BYTES
