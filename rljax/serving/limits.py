"""How much a server holds and takes at a time."""

import dataclasses

from jax.sharding import Mesh

from rljax.models.config import ModelConfig
from rljax.models.kv_cache import cache_bytes
from rljax.parallel.rules import rows_divisor
from rljax.sampling.checks import GIB, device_memory


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """Sizes of a server; `launch/serve.py` has a flag for each.

    Attributes:
        slots: rows decoded at a time, on all devices together.
        context: tokens of a row at most, prompt and completion.
        steps: tokens of each row between two looks at the queue; a stop string ends a row there,
            and up to `steps - 1` tokens behind it are thrown away.
        prefill_tokens: prompt tokens that are computed at a time, about.
        queue: rows that wait at most; further requests are refused.
        samples: rows of one request at most.
        episodes: that are kept at a time.
        body_bytes: of a request.
    """

    slots: int = 64
    context: int = 2048
    steps: int = 8
    prefill_tokens: int = 256
    queue: int = 1024
    samples: int = 256
    episodes: int = 4096
    body_bytes: int = 8 * 2**20

    def __post_init__(self) -> None:
        least = {"context": 2}
        for field in dataclasses.fields(self):
            value, lowest = getattr(self, field.name), least.get(field.name, 1)
            if value < lowest:
                flag = f"--{field.name.replace('_', '-')}"
                raise ValueError(f"{field.name} must be >= {lowest}, got {value} ({flag}).")

    def check(self, model: ModelConfig, cache_dtype: str, mesh: Mesh) -> None:
        """Raises ValueError where a model cannot be served with these sizes on a mesh."""
        shards = rows_divisor(mesh)
        if self.slots % shards:
            raise ValueError(
                f"slots={self.slots} must be a multiple of the mesh's {shards} shards of rows "
                "(--slots, --mesh)."
            )
        model.check_positions(self.context, "A row", "lower the context (--context)")
        # The programs of decoding hold the logits, what is sampled from, and its exponentials.
        parts = {
            "cache": cache_bytes(model, self.slots, self.context, cache_dtype),
            "logits": 5 * 4 * self.slots * model.padded_vocab_size,
        }
        devices = shards * mesh.shape["tensor"]
        needed, limit = sum(parts.values()) / devices, device_memory(mesh)
        if limit is not None and needed > limit:
            listed = ", ".join(
                f"{name} {size / devices / GIB:.2f} GiB" for name, size in parts.items()
            )
            raise ValueError(
                f"{self.slots} slots of {self.context} tokens need {needed / GIB:.2f} GiB on each "
                f"device, which has {limit / GIB:.2f} GiB: {listed} (--slots, --context, "
                "--cache=int8)."
            )
