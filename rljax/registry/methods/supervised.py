"""Learning from demonstrations."""

from rljax.registry.method import Method

ROWS = (
    Method("sft", "supervised", "-", "negative log-likelihood of demonstrations", {}),
    Method(
        "dft",
        "supervised",
        "arXiv:2508.05629",
        "each demonstrated token weighted by its probability: maximises the mean probability",
        dict(token_loss="probability_weighted", probability_power=1.0),
    ),
    Method(
        "llada_sft",
        "supervised",
        "arXiv:2502.09992",
        "masked diffusion: hidden tokens of the answer weigh 1 / noise level, mean over answers",
        dict(
            likelihood="elbo",
            masking="bernoulli",
            mask_draws=1,
            mask_share_low=1e-3,
            aggregation="sequence_mean_token_mean",
        ),
    ),
    Method(
        "tl_sft",
        "supervised",
        "arXiv:2412.15495",
        "TL-Training: the tokens that decide a tool call weigh up to nine times as much",
        dict(token_weight="key_tokens", key_weight_limit=9.0),
    ),
    Method(
        "sft_kl",
        "supervised",
        "arXiv:2509.23753",
        "negative log-likelihood with a forward KL to the start over the whole vocabulary",
        dict(anchor="forward_kl", anchor_weight=0.05),
    ),
    Method(
        "asft",
        "supervised",
        "arXiv:2509.23753",
        "DFT with a forward KL to the start over the whole vocabulary",
        dict(
            token_loss="probability_weighted",
            probability_power=1.0,
            anchor="forward_kl",
            anchor_weight=0.05,
        ),
    ),
)
