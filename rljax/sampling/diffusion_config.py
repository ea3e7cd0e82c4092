"""The options of masked-diffusion decoding, and which of their combinations are possible."""

import dataclasses
import math

from rljax.models.network import Network
from rljax.sampling.acceptance import OF_MODEL, REMASKING
from rljax.sampling.distribution import TokenFilter

STOP_CONFIDENCE = ("model", "zero", "excluded")

# Fields that a run does not set in config.sampler.diffusion.
_WHERE = {
    "samples_per_prompt": "config.<stage>.batch.samples_per_prompt",
    "max_new_tokens": "config.<stage>.sampling.max_new_tokens",
    "temperature": "config.<stage>.sampling.temperature",
    "stop_tokens": "DiffusionConfig.stop_tokens",
    "pad_token": "DiffusionConfig.pad_token",
    "mask_token": "config.model.mask_token",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiffusionConfig:
    """What is static in a diffusion sampling program.

    Attributes:
        samples_per_prompt: G.
        max_new_tokens: T, positions of the canvas (LLaDA: gen_length).
        block_tokens: K, positions of a block (block_length); T for one block.
        steps: denoising steps in all; each block gets steps // blocks.
        mask_token: id that stands for a position still to be filled.
        stop_tokens: ids that end a completion; without any, every row fills its canvas.
        pad_token: id after the end.
        temperature: of the softmax that tokens are drawn from; 0 takes the likeliest token.
        remasking: which draws are committed first (sampling/acceptance.py): those that the
            untempered model is surest of by the token's probability ("low_confidence"), by the
            "margin" of the likeliest token, by the "entropy"; from "left_to_right"; or any
            ("random").
        entropy_bound: nats that what is committed at once may be worth, beside its most uncertain
            position; a step then commits as much as that lets through, at least one position and
            what `steps` makes it. None: as `steps` says.
        stop_confidence: how sure a drawn stop token counts: as the "model" says; "zero", so that
            it is committed after all others; or "excluded", which moreover takes the confidence of
            the others from a softmax without stop tokens. Instruct models whose block is the whole
            canvas need one of the latter, else they fill it with stop tokens.
        cfg_scale: s of classifier-free guidance, l_u + (s + 1) (l_c - l_u) with l_u from a canvas
            whose prompt is masked; 0 is off. Costs a second forward pass.
        shift_logits: position i is predicted by output i - 1 (models that were autoregressive
            before, such as Dream), not by output i (LLaDA).
        forbid_mask_token: the mask token cannot be drawn (SUBS, arXiv:2406.07524). LLaDA's code
            does not forbid it. With False it is drawn as any other token, and then stays.
        textless: ranges (start, stop) of ids that have no text (vocabulary.py), which are never
            drawn; only `forbid_mask_token` says whether the mask token is.
    """

    samples_per_prompt: int
    max_new_tokens: int
    block_tokens: int
    steps: int
    mask_token: int
    stop_tokens: tuple[int, ...]
    pad_token: int
    temperature: float = 0.0
    remasking: str = "low_confidence"
    entropy_bound: float | None = None
    stop_confidence: str = "model"
    cfg_scale: float = 0.0
    shift_logits: bool = False
    forbid_mask_token: bool = True
    textless: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        for field in ("samples_per_prompt", "max_new_tokens", "block_tokens"):
            self._require(field, getattr(self, field) >= 1, ">= 1")
        self._require(
            "block_tokens",
            self.max_new_tokens % self.block_tokens == 0,
            f"a divisor of max_new_tokens={self.max_new_tokens}",
        )
        self._require(
            "steps",
            self.steps >= 1 and self.steps % self.blocks == 0,
            f"a positive multiple of the {self.blocks} blocks "
            f"(max_new_tokens={self.max_new_tokens} / block_tokens={self.block_tokens})",
        )
        for field in ("temperature", "cfg_scale"):
            value = getattr(self, field)
            self._require(field, value >= 0 and math.isfinite(value), "finite and >= 0")
        self._require("remasking", self.remasking in REMASKING, f"one of {REMASKING}")
        self._require(
            "stop_confidence", self.stop_confidence in STOP_CONFIDENCE, f"one of {STOP_CONFIDENCE}"
        )
        bound = self.entropy_bound
        self._require(
            "entropy_bound",
            bound is None or (bound >= 0 and math.isfinite(bound)),
            "None, or finite and >= 0",
        )
        if self.remasking not in OF_MODEL or not self.stop_tokens:
            self._require(
                "stop_confidence",
                self.stop_confidence == "model",
                f"'model' with remasking={self.remasking!r} and stop_tokens={self.stop_tokens}: "
                "nothing else would read it",
            )
        self._require(
            "mask_token",
            self.mask_token not in self.stop_tokens,
            f"none of stop_tokens={self.stop_tokens}: an open position would end its row",
        )
        self._require(
            "mask_token",
            self.mask_token != self.pad_token,
            f"other than pad_token={self.pad_token}: padding would read as positions to fill",
        )

    def _require(self, field: str, ok: bool, allowed: str) -> None:
        if not ok:
            where = _WHERE.get(field, f"config.sampler.diffusion.{field}")
            raise ValueError(f"{field} must be {allowed}; got {getattr(self, field)!r} ({where}).")

    @property
    def blocks(self) -> int:
        """Blocks of the canvas."""
        return self.max_new_tokens // self.block_tokens

    @property
    def steps_per_block(self) -> int:
        """Denoising steps of a block."""
        return self.steps // self.blocks

    @property
    def most_passes(self) -> int:
        """Denoising steps that are run at most: those that would commit nothing are skipped."""
        return self.blocks * min(self.steps_per_block, self.block_tokens)

    @property
    def token_filter(self) -> TokenFilter:
        """The filter of tokens that are drawn: a temperature, over the ids that have a text."""
        return TokenFilter(temperature=self.temperature, textless=self.textless)

    def check_network(self, network: Network) -> None:
        """Raises ValueError unless the network can be decoded in this way."""
        model = network.config
        if model.causal:
            raise ValueError(
                "causal=True: masked diffusion needs a network that sees both ways, causal=False "
                "(config.model.causal)."
            )
        if model.head != "language_model":
            raise ValueError(
                f"head={model.head!r} predicts no tokens; allowed: 'language_model' "
                "(config.model.head)."
            )
        ids = f"in 0..{model.vocab_size - 1} (vocab_size={model.vocab_size})"
        for field in ("mask_token", "pad_token"):
            self._require(field, 0 <= getattr(self, field) < model.vocab_size, ids)
        inside = all(0 <= token < model.vocab_size for token in self.stop_tokens)
        self._require("stop_tokens", inside, f"all {ids}")
        without = {token for start, stop in self.textless for token in range(start, stop)}
        some = len({*self.stop_tokens, self.mask_token} | without) < model.vocab_size
        self._require("stop_tokens", some, "fewer: no other token is left to begin with")
