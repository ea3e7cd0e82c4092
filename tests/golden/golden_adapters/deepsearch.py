"""Slug deepsearch: backups, scores of the frontier, and advantages of searched trajectories."""

from golden_adapters.common import bools, floats, part
from rljax.training.collect.search_tree import SearchRules, SearchTree


def deepsearch(case: dict) -> dict:
    return _advantage(case) if case["name"].startswith("advantage") else _tree(case)


def _advantage(case: dict) -> dict:
    args = case["args"]
    compare = part(
        "deepsearch",
        "advantage",
        "search_mean",
        search_deviation=args["norm_adv_by_std"],
        search_epsilon=args["epsilon"],
    )
    rewards, mask = floats(case, "token_level_rewards"), bools(case, "response_mask")
    return {"advantages": compare(rewards, mask, floats(case, "index").astype(int))}


def _tree(case: dict) -> dict:
    args, inputs = case["args"], case["inputs"]
    rules = SearchRules(
        width=args["width"],
        depth_limit=args["max_depth"],
        exploration=args["lambda_puct"],
        parent_weight=args["lambda1"],
        entropy_weight=args["lambda4"] if args["uncertainty_bonus"] else 0.0,
        depth_weight=args["lambda3"],
        depth_bonus=args["depth_bonus"],
        backup_floor=args["backup_threshold"],
    )
    tree = SearchTree(rules)
    for parent, terminal in list(zip(inputs["parent"], inputs["terminal"], strict=True))[1:]:
        tree.add(parent, terminal=bool(terminal))
    assert tree.depth == inputs["depth"]
    for node, value in inputs["backups"]:
        tree.backup(node, value) if value else tree.visit(node)
    nodes, frontier = range(len(tree.parent)), tree.frontier()
    return {
        "value": tree.value,
        "visits": tree.visits,
        "q": [tree.mean(node) for node in nodes],
        "puct": [tree.uct(node) for node in nodes],
        "frontier": frontier,
        "frontier_score": [tree.frontier_score(node) for node in frontier],
        "selected": tree.best_of_frontier(),
    }
