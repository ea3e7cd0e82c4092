"""Sampling and training in turns, or at the same time on devices of their own: LlamaRL's theory.

Wu et al., "LlamaRL" (arXiv:2505.24034). A phase whose model lies on groups of m devices, and whose
group takes eta seconds a sample when it holds b samples, takes B m eta(b) / N seconds for B samples
on N devices. In turns, both phases share m and the memory; side by side, each has its own:

    in turns      T_s = min over m, b_t, b_g of (B m / N) (eta_t + eta_g)
    side by side  T_a = min over theta of max(A / theta, C / (1 - theta)) = A + C
                  with A = min B m_t eta_t / N, C = min B m_g eta_g / N, at theta = A / (A + C)

T_a <= T_s, as whatever fits the shared memory fits the memory of each phase. The eta here are
rooflines: useful operations, bytes and exchanges of a sample against a device's figures.
"""

import dataclasses
import math
from collections.abc import Iterator
from functools import cache

from rljax.benchmarks.flops import forward_flops, sampling_flops, update_flops
from rljax.models.config import ModelConfig
from rljax.models.presets import preset
from rljax.planning.decode_bound import cache_bytes, decode_bytes, read_weights


@dataclasses.dataclass(frozen=True)
class Device:
    """An accelerator in nodes.

    Attributes:
        flops: operations a second of bfloat16 matrix products.
        memory: bytes.
        bandwidth: of its memory, bytes a second.
        node: devices that `link` connects.
        link: bytes a second to the others of a node, one way.
        network: bytes a second to other nodes, one way.
    """

    flops: float
    memory: float
    bandwidth: float
    node: int
    link: float
    network: float


# NVIDIA's data sheet of H100 SXM, without sparsity; a 400 Gbit/s adapter for each.
H100 = Device(9.89e14, 80e9, 3.35e12, 8, 4.5e11, 5e10)

# Bytes of a parameter: weights and gradients in bfloat16, its master copy and Adam in float32.
TRAINED, SAMPLED = 16, 2


@dataclasses.dataclass(frozen=True)
class Setting:
    """What a step is.

    Attributes:
        model: the shape.
        devices: N.
        samples: B of a step.
        prompt, new: tokens of a prompt and of a completion.
        device: each of the N.
    """

    model: ModelConfig
    devices: int
    samples: int
    prompt: int = 1024
    new: int = 1024
    device: Device = H100


@dataclasses.dataclass(frozen=True)
class Paper:
    """Seconds of a step that the paper reports: in turns, and side by side."""

    preset: str
    turns: float
    ahead: float

    @property
    def speedup(self) -> float:
        """How much faster side by side is."""
        return self.turns / self.ahead


PAPER = {
    "8B": Paper("llama3_1_8b", 22.45, 8.90),
    "70B": Paper("llama3_1_70b", 82.32, 20.67),
    "405B": Paper("llama3_405b", 635.8, 59.5),
}
# The paper's counts are not known here; B and N cancel from the speed-up but for the samples that
# there are to hold at once.
DEVICES = {"8B": 256, "70B": 256, "405B": 1024}
SAMPLES = 2048


@dataclasses.dataclass(frozen=True)
class Phase:
    """The best of one phase: seconds on all N devices, devices of a group, samples it holds."""

    seconds: float
    group: int
    held: int


def best_share(training: float, sampling: float) -> float:
    """The share of the devices that trains, theta = A / (A + C)."""
    return training / (training + sampling)


def seconds_ahead(training: float, sampling: float, share: float) -> float:
    """max(A / theta, C / (1 - theta)): a step with both phases side by side.

    Args:
        training, sampling: A and C, seconds of each phase on all devices.
        share: theta of the devices train.
    """
    return max(training / share, sampling / (1 - share))


@cache
def flops_of(setting: Setting) -> tuple[float, float]:
    """Operations of a sample: of its update with full remat, and of its sampling."""
    shape = (setting.model, 1, 1, setting.prompt, setting.new)
    training = update_flops(*shape, shared=False) + forward_flops(*shape, shared=False)
    return training, sampling_flops(*shape)


def bandwidth(device: Device, group: int) -> float:
    """Bytes a second between the devices of a group."""
    return device.link if group <= device.node else device.network


def reduced_seconds(setting: Setting, group: int, tokens: float, passes: int) -> float:
    """All-reduces of matrices that are split over a group: two in each layer and pass.

    Args:
        setting: the step.
        group: devices that each matrix is split over.
        tokens: whose hidden states are added up.
        passes: through the network.
    """
    size = 2.0 * tokens * setting.model.width
    around = 2 * (group - 1) / group / bandwidth(setting.device, group)
    return passes * 2 * setting.model.layers * size * around


def gathered_seconds(setting: Setting, group: int, passes: int) -> float:
    """All-gathers of weights that are stored in parts (fsdp): all of them in each pass."""
    around = (group - 1) / group / bandwidth(setting.device, group)
    return passes * SAMPLED * read_weights(setting.model) * around


def training_seconds(setting: Setting, group: int, held: int) -> float:
    """eta_t: a sample's update on a group of devices that takes `held` at once, full remat.

    The matrices are split over the group, or stored in parts: whichever exchanges less.
    """
    model, device = setting.model, setting.device
    flops, _ = flops_of(setting)
    # Forward, forward again and backward each need the weights; the last adds up gradients.
    read = 4 * SAMPLED * read_weights(model) / held
    links = min(
        reduced_seconds(setting, group, setting.prompt + setting.new, passes=3),
        gathered_seconds(setting, group, passes=4) / held,
    )
    return max(flops / group / device.flops, read / group / device.bandwidth, links)


def sampling_seconds(setting: Setting, group: int, held: int) -> float:
    """eta_g: a sample's completion on a group of devices that decodes `held` at once."""
    model, device = setting.model, setting.device
    _, flops = flops_of(setting)
    # On average a row has its prompt and half of its completion in the cache.
    read = decode_bytes(model, held, setting.prompt + setting.new // 2) * setting.new / held
    links = reduced_seconds(setting, group, setting.prompt + setting.new, passes=1)
    return max(flops / group / device.flops, read / group / device.bandwidth, links)


def activation_bytes(setting: Setting) -> float:
    """Activations of a sample in training, where only what enters a layer is kept."""
    model = setting.model
    return 2.0 * model.layers * model.width * (setting.prompt + setting.new)


def groups(setting: Setting) -> Iterator[int]:
    """Sizes of groups: powers of two."""
    size = 1
    while size <= setting.devices:
        yield size
        size *= 2


def _sizes(most: float) -> Iterator[int]:
    """Powers of two up to a number."""
    size = 1
    while size <= most:
        yield size
        size *= 2


def alone(setting: Setting, *, trains: bool) -> Phase:
    """The least of one phase that has the memory of its devices for itself: A or C.

    Raises:
        ValueError: if it fits no group.
    """
    weights = read_weights(setting.model) * (TRAINED if trains else SAMPLED)
    sample = activation_bytes(setting) if trains else _cache(setting)
    eta = training_seconds if trains else sampling_seconds
    found = [
        Phase(setting.samples * m * eta(setting, m, b) / setting.devices, m, b)
        for m in groups(setting)
        for b in _sizes(setting.samples * m / setting.devices)
        if weights + sample * b <= m * setting.device.memory
    ]
    return _best(found, setting)


def in_turns(setting: Setting) -> Phase:
    """T_s: both phases on the same groups, the weights of both in memory; `held` is b_g.

    Raises:
        ValueError: if it fits no group.
    """
    weights = read_weights(setting.model) * (TRAINED + SAMPLED)
    found = []
    for m in groups(setting):
        most = setting.samples * m / setting.devices
        for trained in _sizes(most):
            for sampled in _sizes(most):
                held = activation_bytes(setting) * trained + _cache(setting) * sampled
                if weights + held <= m * setting.device.memory:
                    eta = training_seconds(setting, m, trained)
                    eta += sampling_seconds(setting, m, sampled)
                    found.append(Phase(setting.samples * m * eta / setting.devices, m, sampled))
    return _best(found, setting)


def _cache(setting: Setting) -> float:
    return cache_bytes(setting.model, setting.prompt + setting.new)


def _best(found: list[Phase], setting: Setting) -> Phase:
    if not found:
        raise ValueError(
            f"{setting.devices} devices of {setting.device.memory / 1e9:.0f} GB do not hold the "
            "model (devices)."
        )
    return min(found, key=lambda phase: phase.seconds)


def compare(name: str) -> dict[str, float]:
    """A row of the paper's table beside ours.

    Args:
        name: of `PAPER`.

    Returns:
        paper_turns, paper_ahead, paper_speedup; turns, ahead (on whole groups of devices), speedup,
        bound (T_s / T_a), share (theta), and the groups of both settings.
    """
    paper = PAPER[name]
    setting = Setting(ModelConfig(**preset(paper.preset)), DEVICES[name], SAMPLES)
    turns = in_turns(setting)
    training, sampling = alone(setting, trains=True), alone(setting, trains=False)
    # A split is of whole groups of the larger of both sizes.
    step = max(training.group, sampling.group)
    shares = [m / setting.devices for m in range(step, setting.devices, step)]
    ahead = min(
        (seconds_ahead(training.seconds, sampling.seconds, share) for share in shares),
        default=math.inf,
    )
    return {
        "paper_turns": paper.turns,
        "paper_ahead": paper.ahead,
        "paper_speedup": paper.speedup,
        "turns": turns.seconds,
        "ahead": ahead,
        "speedup": turns.seconds / ahead,
        "bound": turns.seconds / (training.seconds + sampling.seconds),
        "share": best_share(training.seconds, sampling.seconds),
        "group_turns": turns.group,
        "group_training": training.group,
        "group_sampling": sampling.group,
    }
