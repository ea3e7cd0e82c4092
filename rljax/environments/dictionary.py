"""Translation into a cipher language with a dictionary to ask: dict-translation (arXiv:2508.19481).

A sentence of made-up words has a made-up translation, word by word. The model may write
<query>word word</query>, and is given the matches; <answer>...</answer> ends the episode. The
dictionary knows most words; a malformed query has an empty result, a missing answer no reward.
"""

import functools
import random
import re
from collections.abc import Mapping
from typing import Any

from rljax.environments.environment import FIELD, Start, Turn
from rljax.rewards.answers import last_tagged

_QUERY = re.compile(r"<query>(.*?)(?:</query>|\Z)", re.DOTALL)
_CONSONANTS, _VOWELS = "bdfgklmnprstvz", "aeiou"

# Words of a query that are looked up, as in the paper.
MOST_WORDS = 5


class Dictionary:
    """The cipher, its dictionary, and sentences of `words` words."""

    def __init__(
        self,
        *,
        words: int = 2,
        vocabulary: int = 40,
        known_share: float = 0.8,
        tries: int = 3,
        reward: str = "words",
    ) -> None:
        """Makes the cipher, which is the same for every run.

        Args:
            words: of a sentence.
            vocabulary: words of the language.
            known_share: share of them that the dictionary knows.
            tries: replies of an episode.
            reward: "words", the share of words that are right in their place; "exact", 1 or 0.

        Raises:
            ValueError: for values out of range.
        """
        for name, value, fits, allowed in (
            ("words", words, words >= 1, "at least 1"),
            ("vocabulary", vocabulary, 1 <= vocabulary <= 2000, "in [1, 2000]"),
            ("known_share", known_share, 0 <= known_share <= 1, "in [0, 1]"),
            ("tries", tries, tries >= 1, "at least 1"),
            ("reward", reward, reward in ("words", "exact"), "'words' or 'exact'"),
        ):
            if not fits:
                raise ValueError(f"{name} must be {allowed}, got {value!r} ({FIELD}.options).")
        self.words, self.tries, self.reward = words, tries, reward
        self.cipher = cipher(vocabulary)
        known = round(known_share * vocabulary)
        self.known = dict(list(self.cipher.items())[:known])

    def record(self, seed: int) -> dict[str, Any]:
        """A sentence and its translation."""
        drawn = random.Random(seed).choices(list(self.cipher), k=self.words)
        return {"prompt": " ".join(drawn), "reference": " ".join(map(self.cipher.get, drawn))}

    def demonstration(self, record: Mapping[str, Any]) -> list[dict[str, str]]:
        """A conversation that looks up random words of the sentence, and then translates it."""
        start, words = self.reset(record), record["prompt"].split()
        draw = random.Random(record["prompt"])
        asked = draw.sample(words, draw.randint(0, len(words)))
        messages, state = list(start.messages), dict(start.state)
        if asked:
            reply = f"<query>{' '.join(asked)}</query>"
            messages.append({"role": "assistant", "content": reply})
            messages += self.step(state, reply).observation
        answer = f"<answer>{record['reference']}</answer>"
        return [*messages, {"role": "assistant", "content": answer}]

    def reset(self, record: Mapping[str, Any]) -> Start:
        """Shows the sentence."""
        state = {"gold": record["reference"], "left": self.tries}
        return Start([{"role": "user", "content": record["prompt"]}], state)

    def step(self, state: dict[str, Any], reply: str) -> Turn:
        """The matches of a query, or the reward of an answer."""
        state["left"] -= 1
        answer = last_tagged(reply, "answer")
        if answer is not None:
            return Turn(None, self._score(answer, state["gold"]), True)
        if not state["left"]:
            return Turn(None, 0.0, True)
        asked = " ".join(_QUERY.findall(reply)).split()[:MOST_WORDS]
        found = [f"{word}={self.known[word]}" for word in asked if word in self.known]
        return Turn([{"role": "tool", "content": " ".join(found)}])

    def _score(self, answer: str, gold: str) -> float:
        said, wanted = answer.split(), gold.split()
        if self.reward == "exact":
            return float(said == wanted)
        right = sum(a == b for a, b in zip(said, wanted, strict=False))
        return right / max(len(said), len(wanted))


@functools.cache
def cipher(vocabulary: int) -> dict[str, str]:
    """Word -> translation; both of two syllables, no word twice."""
    draw, words = random.Random(0), []
    while len(words) < 2 * vocabulary:
        word = "".join(draw.choice(letters) for letters in (_CONSONANTS, _VOWELS) * 2)
        if word not in words:
            words.append(word)
    return dict(zip(words[:vocabulary], words[vocabulary:], strict=True))
