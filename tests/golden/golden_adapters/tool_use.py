"""Slug tl-training: the graded reward of a tool call."""

from golden_adapters.common import NotBuilt
from rljax.rewards.functions import find_reward


def tl_training(case: dict) -> dict:
    inputs = case["inputs"]
    if "prediction" not in inputs:
        raise NotBuilt("weights of decisive tokens")
    tools = {name: inputs["params"][name] for name in inputs["functions"]}
    reference = {"call": inputs["gold"], "tools": tools}
    return {"reward": find_reward("tool_call")("", inputs["prediction"], reference)}
