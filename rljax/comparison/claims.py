"""Orderings that papers claim, as far as a small task can test them."""

from rljax.comparison.results import Claim

_TABLES = {
    "psr_nsr": "arXiv:2506.01347",
    "canon": "arXiv:2509.23962, tables 1 and 2",
    "vineppo": "arXiv:2410.01679, GSM8K and MATH",
    "steer": "arXiv:2510.10150, Qwen2.5-Math-7B",
}

CLAIMS = (
    Claim("rloo", ">", "reinforce", "accuracy", "arXiv:2402.14740"),
    Claim("remax", ">", "reinforce", "accuracy", "arXiv:2310.10505"),
    Claim("grpo", ">", "reinforce", "accuracy", "arXiv:2402.03300"),
    Claim("reinforce_pp_baseline", ">", "grpo", "accuracy", "arXiv:2501.03262"),
    Claim("dr_grpo", ">", "grpo", "accuracy", _TABLES["canon"]),
    Claim("dapo", ">", "grpo", "accuracy", "arXiv:2503.14476, table 1"),
    Claim("dapo", "<", "grpo", "updates_to_threshold", "arXiv:2503.14476, dynamic sampling"),
    Claim("lite_ppo", ">", "grpo", "accuracy", "arXiv:2508.08221"),
    Claim("lite_ppo", ">", "dapo", "accuracy", "arXiv:2508.08221"),
    Claim("gpg", ">", "grpo", "accuracy", "arXiv:2504.02546"),
    Claim("opo", ">", "grpo", "accuracy", _TABLES["steer"]),
    Claim("nsr", ">", "grpo", "entropy", _TABLES["psr_nsr"]),
    Claim("psr", "<", "grpo", "entropy", _TABLES["psr_nsr"]),
    Claim("w_reinforce", ">", "reinforce", "accuracy", _TABLES["psr_nsr"]),
    Claim("grpo_n", ">", "grpo", "entropy", "arXiv:2510.04028"),
    Claim("ngrpo", ">", "grpo", "entropy", "arXiv:2509.18851"),
    Claim("ngrpo", ">", "dapo", "accuracy", "arXiv:2509.18851, AIME2025"),
    Claim("bnpo", ">", "grpo", "accuracy", "arXiv:2506.02864, mean of four sets"),
    Claim("canon_inter", ">", "dr_grpo", "accuracy", _TABLES["canon"]),
    Claim("gspo", ">", "grpo", "accuracy", "arXiv:2507.18071"),
    Claim("cispo", "<", "dapo", "updates_to_threshold", "arXiv:2506.13585"),
    Claim("kl_cov", ">", "grpo", "entropy", "arXiv:2505.22617"),
    Claim("clip_cov", ">", "grpo", "accuracy", _TABLES["steer"]),
    Claim("steer", ">", "clip_cov", "accuracy", _TABLES["steer"]),
    Claim("steer", ">", "grpo", "entropy", "arXiv:2510.10150"),
    Claim("lp_reg", ">", "grpo", "accuracy", "arXiv:2510.03222"),
    Claim("hapo", ">", "dapo", "accuracy", "arXiv:2509.16591"),
    Claim("d3s", ">", "grpo", "accuracy", "arXiv:2509.22115"),
    Claim("disco", ">", "grpo", "accuracy", "arXiv:2505.12366"),
    Claim("disco", ">", "dapo", "accuracy", "arXiv:2505.12366"),
    Claim("ppo", ">", "grpo", "accuracy", _TABLES["vineppo"]),
    Claim("hpt", ">", "grpo", "accuracy", "arXiv:2509.04419"),
    Claim("hpt", ">", "luffy", "accuracy", "arXiv:2509.04419"),
)
