"""What judges are asked, with places that are filled in."""

import re

SCORE_QUESTION = """Rate the answer to the request below with a whole number from {lowest}, which
is useless, to {highest}. {rubric}

Request:
{prompt}

Answer:
{completion}

End with the number alone."""

PAIR_QUESTION = """Which answer to the request below is better? {rubric}

Request:
{prompt}

Answer A:
{first}

Answer B:
{second}

Say A or B, and nothing else."""

PAIR_ANSWERS = ("A", "B")

QUESTIONS = {"score": SCORE_QUESTION, "pair": PAIR_QUESTION}

# Places without which a question asks nothing about the sample.
NEEDED = {"score": ("prompt", "completion"), "pair": ("prompt", "first", "second")}


def filled(question: str, values: dict[str, str]) -> str:
    """A question with its places filled in; braces of what is filled in stay as they are."""
    names = "|".join(values)
    return re.sub(rf"\{{({names})\}}", lambda found: values[found[1]], question)


def score_values(
    prompt: str, completion: str, rubric: str, lowest: int, highest: int
) -> dict[str, str]:
    """What fills in a question about one answer."""
    return {
        "prompt": prompt,
        "completion": completion,
        "rubric": rubric,
        "lowest": str(lowest),
        "highest": str(highest),
    }


def pair_values(prompt: str, first: str, second: str, rubric: str) -> dict[str, str]:
    """What fills in a question about two answers."""
    return {"prompt": prompt, "first": first, "second": second, "rubric": rubric}
