"""The study of latent chain of thought: its tasks, measures and claims."""

from rljax.comparison.from_start.study import Claim, Study
from rljax.comparison.latent.methods import METHODS, method_config, warmup_config
from rljax.comparison.latent.problems import ANSWER_TOKENS, write_problems

_JEPO, _COMPARISON = "arXiv:2503.19618", "arXiv:2602.03979"
CLAIMS = (
    Claim("short", "jepo", "accuracy_greedy", ">", "warmup", _JEPO),
    Claim("short", "rloo", "accuracy_greedy", ">", "warmup", _JEPO),
    Claim("short", "jepo", "answer_nll", "<", "rloo", f"{_JEPO}, proxy-NLL on Numina"),
    Claim("short", "trice", "accuracy_greedy", ">", "star", "arXiv:2312.02179, abstract"),
    Claim("long", "jepo", "answer_nll", "<", "sft_direct", f"{_JEPO}, Numina-proof"),
    Claim("long", "jepo", "answer_nll", "<", "jepo_unsupervised", f"{_JEPO}, Numina-proof"),
    Claim("long", "jepo", "answer_nll", "<", "probability", _COMPARISON),
)

LATENT = Study(
    tasks=tuple(ANSWER_TOKENS),
    methods=tuple(METHODS),
    measures={
        "accuracy_greedy": "held-out accuracy",
        "answer_nll": "answer NLL, nats",
        "answer_share": "with an answer",
        "completion_tokens": "tokens",
    },
    claims=CLAIMS,
    prepare=lambda task, folder: write_problems(folder, task),
    warmup_config=warmup_config,
    method_config=method_config,
    start="habit",
)
