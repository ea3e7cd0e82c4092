"""Writes the JSONL files of these examples: `python configs/examples/make_problems.py`."""

import json
import random
from pathlib import Path

FOLDER = Path(__file__).parent


def write(name: str, seed: int, count: int) -> None:
    """Letters to sort: the sorted ones are the reference, and the completion to imitate."""
    generator = random.Random(seed)
    lines = []
    for _ in range(count):
        letters = generator.sample("abcdefghij", 4)
        answer = "".join(sorted(letters))
        record = {"prompt": f"sort {''.join(letters)} ", "reference": answer, "completion": answer}
        lines.append(json.dumps(record))
    (FOLDER / name).write_text("\n".join(lines) + "\n")


def write_told(seed: int, count: int) -> None:
    """Letters to sort, three in four with the sorted ones before them: a model reads a solution."""
    generator = random.Random(seed)
    lines = []
    for _ in range(count):
        letters = generator.sample("abcdefghij", 4)
        answer, prompt = "".join(sorted(letters)), f"sort {''.join(letters)} "
        told = f"{answer} {prompt}" if generator.random() < 0.75 else prompt
        lines.append(json.dumps({"prompt": told, "completion": answer}))
    (FOLDER / "told.jsonl").write_text("\n".join(lines) + "\n")


def wrong(generator: random.Random, right: str) -> str:
    """Nearly right: letters exchanged, one that was not asked for, too few, too many, any order."""
    kind, (i, j) = generator.randrange(5), generator.sample(range(4), 2)
    letters, other = list(right), generator.choice("abcdefghij")
    if kind == 0:
        letters[i], letters[j] = letters[j], letters[i]
    elif kind == 1:
        letters[i] = other
    elif kind == 2:
        del letters[i]
    elif kind == 3:
        letters.append(other)
    else:
        generator.shuffle(letters)
    # Half of what has other letters is in order all the same.
    return "".join(sorted(letters) if kind in (1, 3) and generator.random() < 0.5 else letters)


def write_pairs(name: str, seed: int, count: int) -> None:
    """The sorted letters are chosen, a wrong answer is rejected."""
    generator = random.Random(seed)
    lines = []
    for _ in range(count):
        letters = generator.sample("abcdefghij", 4)
        chosen = rejected = "".join(sorted(letters))
        while rejected == chosen:
            rejected = wrong(generator, chosen)
        prompt = f"sort {''.join(letters)} "
        lines.append(json.dumps({"prompt": prompt, "chosen": chosen, "rejected": rejected}))
    (FOLDER / name).write_text("\n".join(lines) + "\n")


def answers(generator: random.Random) -> tuple[str, list[str], list[float]]:
    """Four letters to sort, three answers, and the share of letters that each has in its place."""
    letters = generator.sample("abcdefghij", 4)
    right = "".join(sorted(letters))
    found = [right, *("".join(generator.sample(right, 4)) for _ in range(2))]
    generator.shuffle(found)
    shares = [sum(a == b for a, b in zip(each, right, strict=True)) / 4 for each in found]
    return f"sort {''.join(letters)} ", found, shares


def write_feedback(seed: int, count: int) -> None:
    """The same answers with scores, with labels, and as pairs with margins."""
    generator = random.Random(seed)
    scored, labelled, rated = [], [], []
    for _ in range(count):
        prompt, found, shares = answers(generator)
        scored.append({"prompt": prompt, "completions": found, "scores": shares})
        own = {"prompt": prompt, "completion": found[0], "label": shares[0] == 1}
        labelled.append(own)
        chosen, rejected = found[shares.index(max(shares))], found[shares.index(min(shares))]
        if chosen != rejected:
            margin = max(shares) - min(shares)
            pair = {"prompt": prompt, "chosen": chosen, "rejected": rejected, "margin": margin}
            rated.append(pair)
    for name, lines in (("scored", scored), ("labelled", labelled), ("rated_pairs", rated)):
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (FOLDER / f"{name}.jsonl").write_text(text)


def write_groups(seed: int, count: int) -> None:
    """Two groups of two answers: three in four of the chosen ones are right, one in four others."""
    generator = random.Random(seed)
    lines = []
    while len(lines) < count:
        letters = generator.sample("abcdefghij", 4)
        right = "".join(sorted(letters))
        chosen, rejected = (
            [right if generator.random() < share else wrong(generator, right) for _ in range(2)]
            for share in (0.75, 0.25)
        )
        if sorted(chosen) != sorted(rejected):
            row = {"prompt": f"sort {''.join(letters)} ", "chosen": chosen, "rejected": rejected}
            lines.append(json.dumps(row))
    (FOLDER / "groups.jsonl").write_text("\n".join(lines) + "\n")


def write_steps(seed: int, count: int) -> None:
    """Sorting by putting the next letter behind the others, a line a step; some lines are wrong."""
    generator = random.Random(seed)
    lines = []
    for _ in range(count):
        letters = generator.sample("abcdefghij", 4)
        right = "".join(sorted(letters))
        steps = [right[: size + 1] for size in range(4)]
        for size in range(4):
            if generator.random() < 0.2:
                steps[size] = "".join(generator.sample("abcdefghij", size + 1))
        labels = [step == right[: size + 1] for size, step in enumerate(steps)]
        prompt = f"sort {''.join(letters)} "
        row = {"prompt": prompt, "completions": steps, "labels": labels, "label": labels[-1]}
        lines.append(json.dumps(row))
    (FOLDER / "steps.jsonl").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    write("problems.jsonl", seed=0, count=2048)
    write("heldout.jsonl", seed=1, count=64)
    write_pairs("pairs.jsonl", seed=2, count=4096)
    write_feedback(seed=3, count=512)
    write_groups(seed=4, count=512)
    write_steps(seed=5, count=512)
    write_told(seed=6, count=2048)
