"""The study of latent chain of thought: its tasks, measures and claims."""

from rljax.comparison.from_start.study import Study
from rljax.comparison.latent.methods import METHODS, method_config, warmup_config
from rljax.comparison.latent.problems import ANSWER_TOKENS, write_problems
from rljax.comparison.orderings import Claim

_JEPO, _COMPARISON = "arXiv:2503.19618", "arXiv:2602.03979"
CLAIMS = (
    Claim("jepo", ">", "warmup", "accuracy_greedy", _JEPO, "short"),
    Claim("rloo", ">", "warmup", "accuracy_greedy", _JEPO, "short"),
    Claim("jepo", "<", "rloo", "answer_nll", f"{_JEPO}, proxy-NLL on Numina", "short"),
    Claim("trice", ">", "star", "accuracy_greedy", "arXiv:2312.02179, abstract", "short"),
    Claim("jepo", "<", "sft_direct", "answer_nll", f"{_JEPO}, Numina-proof", "long"),
    Claim("jepo", "<", "jepo_unsupervised", "answer_nll", f"{_JEPO}, Numina-proof", "long"),
    Claim("jepo", "<", "probability", "answer_nll", _COMPARISON, "long"),
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
