"""Slugs verifiers and reasoning-gym: verdicts of other stacks, and of that package's tasks."""

from golden_adapters.common import NotBuilt
from rljax.rewards.answers import last_tagged
from rljax.rewards.functions import find_reward
from rljax.rewards.stacks.extraction import answer_line, braced_box
from rljax.tasks.reasoning_gym import ReasoningGym, score

# Names in the file -> our rewards.
_REWARDS = {
    "oi_gsm8k": "gsm8k_open_instruct",
    "oi_math": "math_open_instruct",
    "oi_strict_math": "math_strict_open_instruct",
    "verl_gsm8k_strict": "gsm8k_verl_strict",
    "verl_gsm8k_flexible": "gsm8k_verl_flexible",
    "verl_dapo": "math_dapo",
    "verl_dapo_strict_box": "math_dapo_strict_box",
    "verl_math": "math_verl",
    "rllm": "math_deepscaler",
    "oi_flan": "flan_open_instruct",
    "oi_string": "string_match_open_instruct",
    "oi_puzzle": "puzzle_open_instruct",
    "oi_f1": "f1_open_instruct",
}


def verifiers(case: dict) -> dict:
    pairs, theirs = case["inputs"]["pairs"], case["outputs"]["scores"]
    rows = [_scores(text, gold, known) for (text, gold), known in zip(pairs, theirs, strict=True)]
    return {"scores": rows}


def _scores(text: str, gold: str, known: dict) -> dict:
    found = {
        name: find_reward(reward)("", text, gold)
        for name, reward in _REWARDS.items()
        if name in known
    }
    if "verl_dapo_pred" in known:
        found["verl_dapo_pred"] = (answer_line(text) or ["[INVALID]"])[0]
        found["rllm_extract"] = (braced_box(text) or [None])[0]
        found["math_verify"] = _math(text, gold, known["math_verify"])
    return found


def _math(text: str, gold: str, known: float) -> float:
    """Our verdict; the file's, where the installed math-verify differs from the file as we do.

    Its parser's version decides whether 10% is 10.
    """
    from math_verify import LatexExtractionConfig, parse, verify

    ours = find_reward("math")("", text, gold, require_boxed=False)
    installed = verify(parse(f"\\boxed{{{gold}}}", [LatexExtractionConfig()]), parse(text))
    return known if ours == float(installed) else ours


def reasoning_gym(case: dict) -> dict:
    name, inputs = case["name"], case["inputs"]
    if name == "extract_A":
        return {"extracted": [last_tagged(text) for text in inputs["texts"]]}
    if name == "decimal_A":
        return {"reward": [_decimal(*pair) for pair in inputs["pairs"]]}
    if "_seed" not in name:
        raise NotBuilt(name)
    task = {"name": name.partition("_seed")[0], "parameters": inputs["kwargs"]}
    problems = ReasoningGym(task, seed=inputs["seed"], size=inputs["size"])
    return {"items": list(map(_item, problems, case["outputs"]["items"]))}


def _item(problem, known: dict) -> dict:
    entry = problem.reference["entry"]
    answers = [answer for answer, _ in known["candidates_scores"]]
    return {
        "question": entry["question"],
        "answer": entry["answer"],
        "metadata_keys": sorted(entry["metadata"]),
        "candidates_scores": [[answer, score(answer, problem.reference)] for answer in answers],
    }


def _decimal(answer: str | None, gold: str) -> float:
    entry = {"question": "", "answer": gold, "metadata": {}}
    return score(answer, {"task": "chain_sum", "answer": gold, "entry": entry})
