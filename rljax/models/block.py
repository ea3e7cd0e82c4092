"""One transformer block: attention and a dense or mixture-of-experts MLP on a residual stream."""

from flax import nnx
from jax import Array
from jax.ad_checkpoint import checkpoint_name

from rljax.models.config import ModelConfig
from rljax.models.layers import Attend, Attention, GatedMLP, RMSNorm
from rljax.models.moe import MixtureOfExperts, Routing
from rljax.models.rotary import Rotation


class Block(nnx.Module):
    """One block; its norms are before each sublayer, after it, or both (`norm_placement`)."""

    def __init__(self, config: ModelConfig, *, layers: int, rngs: nnx.Rngs):
        before = config.norm_placement in ("pre", "both")
        after = config.norm_placement in ("post", "both")

        def norm(used: bool) -> RMSNorm | None:
            return RMSNorm(config, layers=layers) if used else None

        self.attention_norm = norm(before)
        self.attention = Attention(config, layers=layers, rngs=rngs)
        self.attention_out_norm = norm(after)
        self.mlp_norm = norm(before)
        mlp = MixtureOfExperts if config.experts else GatedMLP
        self.mlp = mlp(config, layers=layers, rngs=rngs)
        self.mlp_out_norm = norm(after)
        self.has_experts = bool(config.experts)

    def __call__(
        self, x: Array, rotation: Rotation, attend: Attend, present: Array
    ) -> tuple[Array, Routing | None]:
        """x [N, S, D], present [N, S] bool (no padding) -> [N, S, D], and where tokens went."""
        x, y = self.attended(x, rotation, attend)
        routing = None
        if self.has_experts:
            y, routing = self.mlp(y, present)
        else:
            y = self.mlp(y)
        return x + _maybe(self.mlp_out_norm, y), routing

    def attended(self, x: Array, rotation: Rotation, attend: Attend) -> tuple[Array, Array]:
        """x [N, S, D] -> the stream behind the attention, and what enters the MLP of it."""
        x = checkpoint_name(x, "block_input")  # by which `remat` offloads it
        y = self.attention(_maybe(self.attention_norm, x), rotation, attend)
        x = x + _maybe(self.attention_out_norm, y)
        return x, _maybe(self.mlp_norm, x)


def _maybe(norm: RMSNorm | None, x: Array) -> Array:
    return x if norm is None else norm(x)
