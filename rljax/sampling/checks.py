"""What is wrong with a request, said before anything is compiled."""

import os

import jax
import numpy as np
from jax.sharding import Mesh

from rljax.models.config import ModelConfig
from rljax.models.kv_cache import cache_bytes
from rljax.sampling.config import SamplingConfig
from rljax.sampling.distribution import EXCLUDED, token_bias
from rljax.sampling.request import Requests, Rollouts
from rljax.sampling.state import Sizes

GIB = 2**30


def check_requests(requests: Requests, config: SamplingConfig, vocab_size: int) -> None:
    """Raises ValueError for arrays (NumPy) that do not make requests.

    Args:
        requests: of B prompts.
        config: of the sampler.
        vocab_size: V.
    """
    prompts = requests.prompts
    lengths = check_prompts(prompts, requests.prompt_mask, vocab_size, "prompts")
    for name in ("prompt_ids", "continued"):
        array = getattr(requests, name)
        if array is not None and array.shape != lengths.shape:
            raise ValueError(f"{name} must have shape {lengths.shape}, got {array.shape} ({name}).")
    shape = (len(prompts), config.samples_per_prompt)
    for name in ("sample_ids", "temperature", "min_new_tokens", "max_new_tokens"):
        array = getattr(requests, name)
        if array is not None and array.shape != shape:
            raise ValueError(f"{name} must have shape {shape}, got {array.shape} ({name}).")
    _check_temperature(requests, config)
    _check_slopes(requests, config)
    _check_limits(requests, config, lengths)
    _check_choice(requests, config, vocab_size)


def check_prompts(prompts: np.ndarray, mask: np.ndarray, vocab_size: int, field: str) -> np.ndarray:
    """Raises ValueError unless these are prompts, padded on the left.

    Args:
        prompts: [B, P] integers.
        mask: [B, P] bool.
        vocab_size: V.
        field: what they are, for the message.

    Returns:
        [B], their lengths.
    """
    if prompts.ndim != 2 or mask.shape != prompts.shape or not len(prompts):
        raise ValueError(
            f"Prompts and their mask must be [B, P] with B >= 1, got {prompts.shape} and "
            f"{mask.shape} ({field})."
        )
    lengths = mask.sum(axis=1)
    if not lengths.all():
        raise ValueError(
            f"Prompt {int(np.argmin(lengths))} is empty: at least one token is needed ({field})."
        )
    padded = (mask == (np.arange(mask.shape[1]) >= mask.shape[1] - lengths[:, None])).all(axis=1)
    if not padded.all():
        row = int(np.argmin(padded))
        raise ValueError(
            f"Prompts must be padded on the left, without holes; prompt {row} has the mask "
            f"{mask[row].astype(int).tolist()} ({field})."
        )
    outside = mask & ((prompts < 0) | (prompts >= vocab_size))
    if outside.any():
        row, place = np.argwhere(outside)[0]
        raise ValueError(
            f"Prompt {row} holds the token id {prompts[row, place]}, which is outside the "
            f"vocabulary [0, {vocab_size}) ({field})."
        )
    return lengths


def check_guide_prompts(
    prompts: np.ndarray, mask: np.ndarray, count: int, vocab_size: int, model: int
) -> None:
    """Raises ValueError unless a guide's model (its number) has a prompt for each of B prompts."""
    field = f"guide_models[{model}].prompts"
    check_prompts(prompts, mask, vocab_size, field)
    if len(prompts) != count:
        raise ValueError(
            f"A guide's model needs a prompt for each of the {count} prompts, got {len(prompts)} "
            f"({field})."
        )


def _check_slopes(requests: Requests, config: SamplingConfig) -> None:
    slopes, token_filter = requests.temperature_slopes, config.token_filter
    if slopes is None:
        return
    shape = (len(requests.prompts), 4)
    if slopes.shape != shape or not np.all((0 <= slopes[:, 3]) & (slopes[:, 3] < 1)):
        raise ValueError(
            f"temperature_slopes must be {shape} numbers, the last of each row, a limit, in "
            f"[0, 1); got {slopes.shape}, the first row {slopes[0].tolist()} (temperature_slopes)."
        )
    others = {
        "temperature": requests.temperature is not None,
        "token_filter.entropy_temperature": token_filter.entropy_temperature is not None,
        "token_filter.temperature=0": token_filter.greedy,
    }
    for other, given in others.items():
        if given:
            raise ValueError(
                f"temperature_slopes change a constant temperature > 0 and exclude {other} "
                f"(temperature_slopes, {other})."
            )


def _check_temperature(requests: Requests, config: SamplingConfig) -> None:
    temperature = requests.temperature
    if temperature is None:
        return
    possible = np.isfinite(temperature) & (temperature >= 0)
    if not possible.all():
        raise ValueError(
            f"temperature must be finite and >= 0 (0 is greedy), got {temperature[~possible][0]} "
            "(temperature)."
        )
    token_filter = config.token_filter
    if (temperature == 0).any() and token_filter.truncates:
        raise ValueError(
            "temperature=0 in a row takes the likeliest token: there are no log-probabilities of a "
            f"filtered distribution; reset top_k={token_filter.top_k}, top_p={token_filter.top_p} "
            f"and min_p={token_filter.min_p}, or give the row a temperature (temperature)."
        )
    if token_filter.entropy_temperature is not None:
        raise ValueError(
            "A row's own temperature and one that follows the entropy exclude each other "
            "(temperature, token_filter.entropy_temperature)."
        )


def _check_limits(requests: Requests, config: SamplingConfig, lengths: np.ndarray) -> None:
    continued, least, most = requests.continued, requests.min_new_tokens, requests.max_new_tokens
    done = np.zeros(len(lengths), int) if continued is None else continued
    if (done < 0).any():
        raise ValueError(f"continued must be >= 0, got {int(done.min())} (continued).")
    if (done >= lengths).any():
        row = int(np.argmax(done >= lengths))
        raise ValueError(
            f"Prompt {row} has {lengths[row]} tokens, of which {done[row]} are said to be "
            "completion: at least one must be prompt (continued)."
        )
    shape = (len(lengths), config.samples_per_prompt)
    before = np.broadcast_to(done[:, None], shape)
    longest = before + config.max_new_tokens if most is None else most
    if (longest <= before).any():
        row, sample = np.argwhere(longest <= before)[0]
        raise ValueError(
            f"max_new_tokens={longest[row, sample]} of sample {sample} of prompt {row} is no more "
            f"than the {before[row, sample]} tokens that have been written already "
            "(max_new_tokens, continued)."
        )
    if least is not None and ((least < 0) | (least > longest)).any():
        row, sample = np.argwhere((least < 0) | (least > longest))[0]
        raise ValueError(
            f"min_new_tokens={least[row, sample]} of sample {sample} of prompt {row} must be in "
            f"0..{longest[row, sample]}, its max_new_tokens (min_new_tokens)."
        )


def _check_choice(requests: Requests, config: SamplingConfig, vocab_size: int) -> None:
    """A row that may not end yet needs a token that does not end it."""
    if requests.min_new_tokens is None or not (requests.min_new_tokens > 0).any():
        return
    bias = token_bias(config.token_filter, vocab_size)
    if bias is None:
        return
    going_on = np.delete(np.asarray(bias), config.stop_tokens)
    if not (going_on > EXCLUDED).any():
        raise ValueError(
            f"min_new_tokens={int(requests.min_new_tokens.max())}, but every token that does not "
            "end a completion is forbidden (min_new_tokens, token_filter.forbidden_tokens)."
        )


def first_not_finite_token(rollouts: Rollouts) -> tuple[int, int, int] | None:
    """Where a model's output was not finite first: (prompt, sample, token); None: nowhere.

    Args:
        rollouts: NumPy arrays [B, G, T].
    """
    wrong = ~np.isfinite(rollouts.model_logprobs) | ~np.isfinite(rollouts.logprobs)
    places = np.argwhere(wrong & rollouts.mask)
    if not len(places):
        return None
    prompt, sample, token = places[np.argmin(places[:, 2])].tolist()
    return prompt, sample, token


def needed_bytes(
    models: list[ModelConfig], config: SamplingConfig, prompts: int, slots: int, shards: int
) -> dict[str, int]:
    """Bytes that a sampling program holds on all devices together, by what they are for.

    Args:
        models: configs of the policy and of the guide's models.
        config: of the sampler.
        prompts: B.
        slots: P.
        shards: of rows.
    """
    sizes = Sizes.of(config, prompts, shards)
    rows = sizes.width * shards
    vocab = models[0].padded_vocab_size

    def caches(rows: int, columns: int) -> int:
        return sum(cache_bytes(model, rows, columns, config.cache_dtype) for model in models)

    penalties = 5 * rows * vocab if config.penalties.active else 0
    return {
        "cache of the prompts": caches(prompts, slots),
        "cache of the samples": caches(rows, sizes.columns),
        # Logits, their filtered copy and the exponentials, in float32.
        "logits": len(models) * 3 * 4 * rows * vocab + penalties,
    }


def check_memory(
    models: list[ModelConfig],
    config: SamplingConfig,
    prompts: int,
    slots: int,
    mesh: Mesh,
    shards: int,
    limit: int | None = None,
) -> None:
    """Raises ValueError where caches and logits are larger than the devices' memory.

    Arguments as in `needed_bytes`, and

    Args:
        mesh: of the sampler; its axes of rows and `tensor` divide what is needed.
        limit: bytes of one device; by default what the device, or the machine, has.
    """
    parts = needed_bytes(models, config, prompts, slots, shards)
    devices = shards * mesh.shape["tensor"]
    needed = sum(parts.values()) / devices
    limit = device_memory(mesh) if limit is None else limit
    if limit is None or needed <= limit:
        return
    listed = ", ".join(f"{name} {size / devices / GIB:.2f} GiB" for name, size in parts.items())
    smaller = "config.sampler.slots (rows at a time)"
    if not config.cache_dtype:
        smaller += ", config.sampler.cache='int8'"
    raise ValueError(
        f"Sampling {prompts} prompts x {config.samples_per_prompt} needs {needed / GIB:.2f} GiB on "
        f"each device, which has {limit / GIB:.2f} GiB: {listed}. It shrinks with {smaller}, "
        "fewer prompts at a time, config.<stage>.sampling.max_new_tokens, or a larger "
        "config.sampler.mesh."
    )


def device_memory(mesh: Mesh) -> int | None:
    """Bytes of one device, or of this machine divided by its devices on CPU; None: unknown."""
    device = mesh.devices.flat[0]
    if device.platform != "cpu":
        try:
            return (device.memory_stats() or {}).get("bytes_limit")
        except jax.errors.JaxRuntimeError:  # a described device (ahead-of-time compilation)
            return None
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return pages // max(1, sum(d.platform == "cpu" for d in mesh.devices.flat))
