"""A step by hand formulas: which meshes, splits and remat policies are worth compiling.

Nothing is compiled here. Memory is parameters, optimizer, gradients, activations and cache; times
are a roofline of useful operations, bytes and exchanged bytes, as roofline.py has it for compiled
programs. Both leave much out. They are for an order, not for figures: a search (search.py)
compiles what is best here, and ranks by that.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from rljax.parallel.mesh import axis_sizes_between
from rljax.planning.chips import Topology

GRADIENT_BYTES = 4  # gradients are added up in float32
# Forward passes of an update, of which the second is what "full" computes again.
FORWARDS = {"none": 1, "dots": 1, "offload": 2, "full": 2}


# What a chip that does both in turn holds while it samples.
HELD = ("parameters", "optimizer", "reference", "critic", "others")


def forwards_of(work: Mapping[str, Any], remat: str) -> int:
    """Forward passes of an update; of masked diffusion its backward pass runs each draw again."""
    return FORWARDS[remat] + work["drawn_again"]


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a run is laid out on a slice.

    Attributes:
        mesh: of the trainer, axis -> size.
        remat: what the backward pass computes again.
        micro: sequences of a forward and backward pass.
        sampler_devices: chips that only sample; 0: all do both in turn.
        sampler_tensor: shards of the sampler's weights; its rows are split over the other chips.
    """

    mesh: Mapping[str, int]
    remat: str
    micro: int
    sampler_devices: int = 0
    sampler_tensor: int = 1

    def size(self, *axes: str) -> int:
        """Shards along axes of the trainer's mesh."""
        return math.prod(self.mesh.get(axis, 1) for axis in axes)


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What a layout comes to.

    Attributes:
        memory: bytes of a chip by kind, while it trains.
        sampling: the same while it samples.
        seconds: of a step by phase.
        step_seconds: of a step.
    """

    memory: dict[str, float]
    sampling: dict[str, float]
    seconds: dict[str, float]
    step_seconds: float

    @property
    def bytes(self) -> float:
        """What a chip holds at most."""
        return max(sum(self.memory.values()), sum(self.sampling.values()))


def estimate(work: Mapping[str, Any], layout: Layout, topology: Topology) -> Estimate:
    """Memory and times of a layout.

    Args:
        work: what the stage asks (workload.py).
        layout: to judge.
        topology: the slice.
    """
    own = layout.sampler_devices
    memory = training_memory(work, layout)
    held = {kind: memory[kind] for kind in HELD}
    sampling, seconds = {}, {"training": training_seconds(work, layout, topology)}
    if work["sampled"]:
        chips = own or topology.count
        sampling = sampling_memory(work, layout.sampler_tensor, chips)
        next_weights = work["waiting_copies"] * sampling["weights"]
        sampling |= {"next weights": next_weights} if own else held
        seconds["sampling"] = sampling_seconds(work, layout.sampler_tensor, chips, topology)
    whole = max(seconds.values()) if own else sum(seconds.values())
    return Estimate(memory, sampling, seconds, whole)


def training_memory(work: Mapping[str, Any], layout: Layout) -> dict[str, float]:
    """Bytes of a chip that trains, by kind."""
    shards = layout.size("fsdp", "tensor", "expert")
    held = work["parameters"] * work["parameter_bytes"] / shards
    tokens = tokens_of(work, layout.micro) / layout.size("data", "fsdp", "expert", "context")
    layers = work["layers"]
    kept = kept_numbers(work, layout.remat, layout.size("tensor"))
    one_layer = kept_numbers(work, "none", layout.size("tensor"))
    whole_layer = work["parameters"] / layers / layout.size("tensor", "expert")
    optimizer = work["parameters"] * work["optimizer_bytes"] / shards
    return {
        "parameters": held,
        "optimizer": optimizer,
        "gradients": 0.0 if work["adapters"] else work["parameters"] * GRADIENT_BYTES / shards,
        "reference": held if work["reference"] else 0.0,
        "critic": held + optimizer if work["critic"] else 0.0,
        "others": work["frozen_parameters"] * work["parameter_bytes"] / shards,
        # What all layers keep, and what one of them needs while it is computed.
        "activations": tokens * (layers * kept + one_layer) * work["activation_bytes"],
        # Two layers at a time are whole over fsdp: one is used, the next is on its way.
        "gathered": 2 * whole_layer * work["activation_bytes"] if layout.size("fsdp") > 1 else 0.0,
    }


def kept_numbers(work: Mapping[str, Any], remat: str, tensor: int) -> float:
    """Numbers that a layer keeps of a token for its backward pass.

    Under "full" its input. Under "dots" also what its products give: query, key, value, what
    attention gives and what leaves it, gate, up and down. Under "none" also the sum after
    attention, two normalised inputs and, in float32 (two numbers each), what they were made of;
    queries and keys once more, and in float32 before they are turned; and what the gate makes of
    gate and up, in three steps. Heads and hidden units are split over `tensor`. "offload" keeps
    what "full" does, in the host's memory.
    """
    width, hidden = work["width"], work["hidden"] * max(work["experts_per_token"], 1)
    heads = (work["heads"] + work["kv_heads"]) * work["head_dim"]
    if remat in ("full", "offload"):
        return width if remat == "full" else 0
    products = 3 * width + (2 * heads + 2 * hidden) / tensor
    return products if remat == "dots" else products + 7 * width + 3 * (heads + hidden) / tensor


def tokens_of(work: Mapping[str, Any], sequences: int) -> float:
    """Tokens of rows, prompts included; a shared prompt is there once."""
    groups = sequences / work["samples"] if work["shared"] else sequences
    return groups * work["prompt"] + sequences * work["completion"]


def training_seconds(work: Mapping[str, Any], layout: Layout, topology: Topology) -> float:
    """Seconds of all updates and scoring passes of a step."""
    chip, chips = topology.chip, topology.count - layout.sampler_devices
    updates, passes = work["updates"], work["passes"]
    forwards = forwards_of(work, layout.remat)
    again = work["update_flops"] / 3 * (forwards - 1)
    flops = updates * (work["update_flops"] + again) + passes * work["forward_flops"]
    flops += work["frozen_flops"]
    parts = work["sequences_per_update"] / layout.micro
    # Each pass reads the weights; an update reads and writes parameters and optimizer once.
    whole = work["parameters"] * work["activation_bytes"] / layout.size("tensor", "expert")
    scored = passes * work["draws"] * work["sequences_per_step"] / layout.micro
    sweeps = updates * parts * work["draws"] * (forwards + 2) + scored
    state = work["parameters"] * (work["parameter_bytes"] + work["optimizer_bytes"])
    read = sweeps * whole + 2 * updates * state / layout.size("fsdp", "tensor", "expert")
    return max(
        flops / chips / chip.flops,
        read / chip.hbm_bandwidth,
        training_links(work, layout, topology, parts, scored),
    )


def training_links(
    work: Mapping[str, Any], layout: Layout, topology: Topology, parts: float, scored: float
) -> float:
    """Seconds in which a step's updates and scoring passes exchange.

    Args:
        work, layout, topology: as for `estimate`.
        parts: micro-batches of an update.
        scored: micro-batches of all scoring passes of a step.
    """
    updates, fsdp, tensor = work["updates"], layout.size("fsdp"), layout.size("tensor")
    forwards, draws = forwards_of(work, layout.remat), work["draws"]
    between = axis_sizes_between(topology.slices, {a: layout.size(a) for a in ("data", "fsdp")})
    numbers = work["parameters"] / layout.size("tensor", "expert")
    total = 0.0
    if fsdp > 1:
        # Weights are gathered for each forward and backward pass, gradients scattered after it.
        passes = updates * parts * draws * (forwards + 1) + scored
        gathered = passes * numbers * work["activation_bytes"]
        scattered = updates * parts * numbers * GRADIENT_BYTES
        total += (gathered + scattered) * ring_seconds(topology, fsdp, between["fsdp"])
    data = layout.size("data")
    if data > 1:  # gradients are added up for each micro-batch
        size = updates * parts * numbers / fsdp * GRADIENT_BYTES
        total += 2 * size * ring_seconds(topology, data, between["data"])
    if tensor > 1:
        # Each layer adds up what attention and MLP give, in each pass and in the backward one.
        rows = layout.size("data", "fsdp", "expert", "context")
        tokens = tokens_of(work, work["sequences_per_update"]) / rows * updates * (forwards + 1)
        tokens += work["passes"] * tokens_of(work, work["sequences_per_step"]) / rows
        size = draws * tokens * 2 * work["layers"] * work["width"] * work["activation_bytes"]
        total += 2 * size * ring_seconds(topology, tensor)
    return total


def ring_seconds(topology: Topology, members: int, slices: int = 1) -> float:
    """Seconds in which a chip takes in all but its own part of an array, for each byte of it.

    Over several slices it takes its part from the others over the network, and from then on what
    the chips beside it have.

    Args:
        topology: the slice, or several.
        members: that have a part of the array.
        slices: that they lie in.
    """
    within = members // slices
    seconds = (within - 1) / within / bandwidth(topology, within)
    if slices > 1:
        seconds += (slices - 1) / slices / within / topology.chip.network_bandwidth
    return seconds


def bandwidth(topology: Topology, members: int) -> float:
    """Bytes a second that a chip takes in from so many chips next to each other.

    They fill the last direction of the slice first; a direction that is a ring and filled is passed
    both ways.
    """
    chip, total, left = topology.chip, 0.0, members
    for size in reversed(topology.sizes):
        if left > 1 and size > 1:
            both = left >= size and chip.closed(size)
            total += chip.link_bandwidth * (2 if both else 1)
        left = math.ceil(left / size)
    return total or chip.link_bandwidth


def sampler_bytes(work: Mapping[str, Any]) -> tuple[float, float]:
    """Bytes of a number of the sampler's weights, and of its cache."""
    sizes = {"": work["parameter_bytes"], "bfloat16": 2, "int8": 1}
    weights = sizes[work["sampler"]["weights"]]
    return weights, 1 if work["sampler"]["cache"] == "int8" else work["activation_bytes"]


def sampler_rows(work: Mapping[str, Any], tensor: int, chips: int) -> float:
    """Rows that a chip decodes at a time."""
    sequences = work["prompts_per_step"] * work["call_samples"]
    slots = work["sampler"]["slots"]
    return (min(slots, sequences) if slots else sequences) / (chips / tensor)


def sampling_memory(work: Mapping[str, Any], tensor: int, chips: int) -> dict[str, float]:
    """Bytes of a chip that samples: weights, and the cache of prompts and of completions."""
    if work["denoising"]:
        return canvas_memory(work, tensor, chips)
    weight_bytes, cache_bytes = sampler_bytes(work)
    rows = sampler_rows(work, tensor, chips)
    each = 2 * work["layers"] * work["kv_heads"] * work["head_dim"] * cache_bytes / tensor
    prompts = work["prompts_per_step"] / (chips / tensor) * work["prompt_slots"]
    return {
        "weights": work["parameters"] * weight_bytes / tensor,
        "cache": (prompts + rows * work["sampled"]) * each,
    }


def sampling_seconds(work: Mapping[str, Any], tensor: int, chips: int, topology: Topology) -> float:
    """Seconds of prefill and decoding, of all calls; every completion has all its tokens."""
    if work["denoising"]:
        return denoising_seconds(work, tensor, chips, topology)
    chip = topology.chip
    weight_bytes, cache_bytes = sampler_bytes(work)
    rows = sampler_rows(work, tensor, chips)
    sequences = work["prompts_per_step"] * work["call_samples"]
    fillings = math.ceil(sequences / (rows * chips / tensor))
    active = work["parameters"]
    if work["experts"]:
        active *= work["experts_per_token"] / work["experts"]
    prefill = 2 * active * work["prompts_per_step"] * work["prompt"] / chips / chip.flops
    length = work["prompt"] + work["sampled"] / 2
    cache = rows * length * 2 * work["layers"] * work["kv_heads"] * work["head_dim"] * cache_bytes
    token = max(
        2 * active * rows / tensor / chip.flops,
        (work["parameters"] * weight_bytes + cache) / tensor / chip.hbm_bandwidth,
    )
    if tensor > 1:
        size = 2 * work["layers"] * rows * work["width"] * work["activation_bytes"]
        sent = 2 * size * ring_seconds(topology, tensor)
        token = max(token, sent)
    return work["calls"] * (prefill + fillings * work["sampled"] * token)


def canvas_memory(work: Mapping[str, Any], tensor: int, chips: int) -> dict[str, float]:
    """Bytes of a chip that fills canvases: weights, a layer of whole rows, logits of a block."""
    weight_bytes, _ = sampler_bytes(work)
    rows = sampler_rows(work, tensor, chips)
    layer = kept_numbers(work, "none", tensor) * work["activation_bytes"]
    return {
        "weights": work["parameters"] * weight_bytes / tensor,
        "rows": rows * (work["prompt_slots"] + work["sampled"]) * layer,
        # As the model gives them, and in float32, in which they are drawn from.
        "logits": 2 * rows * work["denoising"]["block"] * work["vocabulary"] * 4 / tensor,
    }


def denoising_seconds(
    work: Mapping[str, Any], tensor: int, chips: int, topology: Topology
) -> float:
    """Seconds of all denoising steps: each is a pass over whole rows."""
    chip, passes = topology.chip, work["denoising"]["passes"]
    weight_bytes, _ = sampler_bytes(work)
    sent = 0.0
    if tensor > 1:
        tokens = sampler_rows(work, tensor, chips) * (work["prompt_slots"] + work["sampled"])
        size = 2 * work["layers"] * tokens * work["width"] * work["activation_bytes"]
        sent = 2 * size * ring_seconds(topology, tensor)
    return max(
        work["sampling_flops"] / chips / chip.flops,
        passes * work["parameters"] * weight_bytes / tensor / chip.hbm_bandwidth,
        passes * sent,
    )
