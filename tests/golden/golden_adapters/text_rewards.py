"""Slug dllm-tasks: rewards and parsers on texts."""

from golden_adapters.common import NotBuilt
from rljax.rewards.countdown import boxed_expression
from rljax.rewards.functions import find_reward
from rljax.rewards.sudoku import cell_accuracy, compare_cells


def dllm_tasks(case: dict) -> dict:
    if case["name"] not in _CASES:
        raise NotBuilt(case["name"])
    return _CASES[case["name"]](case["inputs"])


def _scores(name: str, texts: list[str], reference, **options) -> list[float]:
    reward = find_reward(name)
    return [reward("", text, reference, **options) for text in texts]


def _countdown_train(inputs: dict) -> dict:
    return {"reward": _scores("countdown", inputs["completions"], inputs)}


def _sudoku_train(inputs: dict) -> dict:
    return {"reward": _scores("sudoku", inputs["completions"], inputs)}


def _gsm8k_train(inputs: dict) -> dict:
    texts, gold = inputs["completions"], inputs["answer"]
    return {
        "xmlcount": _scores("xml_count", texts, gold, taxed="answer"),
        "soft_format": _scores("xml_soft_format", texts, gold),
        "strict_format": _scores("xml_strict_format", texts, gold),
        "integer": _scores("integer_answer", texts, gold),
        "correctness": _scores("tagged_correctness", texts, gold),
    }


def _math_train(inputs: dict) -> dict:
    texts, gold = inputs["completions"], inputs["reference_solution"]
    return {
        "correctness": _scores("math_string", texts, gold),
        "format": _scores("math_tags_format", texts, gold, reference_bug=True),
    }


def _countdown_eval(inputs: dict) -> dict:
    texts = inputs["generations"]
    return {
        "correct": [score == 1.0 for score in _scores("countdown_boxed", texts, inputs)],
        "extracted": [boxed_expression(text) for text in texts],
    }


def _sudoku_eval(inputs: dict) -> dict:
    cells = [compare_cells(text, inputs) for text in inputs["generations"]]
    return {
        "correct_cells": [c.right for c in cells],
        "empty_cells": [c.empty for c in cells],
        "extracted": [c.grid for c in cells],
        "accuracy_reported": cell_accuracy(cells),
    }


_CASES = {
    "countdown_train_reward": _countdown_train,
    "sudoku_train_reward": _sudoku_train,
    "gsm8k_train_rewards": _gsm8k_train,
    "math_train_rewards": _math_train,
    "countdown_eval": _countdown_eval,
    "sudoku_eval": _sudoku_eval,
}
