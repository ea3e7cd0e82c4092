"""BLEU, chrF and ROUGE: values of sacrebleu 2.6.0 and rouge-score 0.1.2, and their properties.

Golden BLEU values are in tests/golden (bleuberi). The numbers here were printed by

    sacrebleu.CHRF().sentence_score(ours, [theirs]).score / 100
    rouge_score.rouge_scorer.RougeScorer([kind]).score(theirs, ours)[kind].fmeasure
    sacrebleu.tokenizers.tokenizer_13a.Tokenizer13a()(text)
"""

import pytest

from rljax.rewards.functions import find_reward
from rljax.rewards.text_metrics.bleu import sentence_bleu, words_13a
from rljax.rewards.text_metrics.chrf import chrf
from rljax.rewards.text_metrics.rouge import common_subsequence, rouge

OURS, THEIRS = "The cat, it sat on a mat.", "A cat sat on the mat!"
CHRF = 0.3935037312589654
ROUGE = {"rouge1": 0.923076923076923, "rouge2": 0.1818181818181818, "rougeL": 0.6153846153846153}


def score(name, text, reference, **options):
    return find_reward(name)("", text, reference, **options)


@pytest.mark.parametrize(
    "text, words",
    [
        ("It's 3.5%, e.g. 1-2", "It's 3.5 % , e . g . 1 - 2"),
        ("&quot;a&quot;\nwell-\nknown <x>", '" a " wellknown < x >'),
        ("1,000.5 a.b", "1,000.5 a . b"),
        ("", ""),
    ],
)
def test_words_of_13a(text, words):
    assert words_13a(text) == words.split()


def test_values_of_the_libraries():
    assert chrf(OURS, THEIRS) == pytest.approx(CHRF, abs=1e-12)
    for kind, value in ROUGE.items():
        assert rouge(OURS, THEIRS, kind=kind) == pytest.approx(value, abs=1e-12)


def test_what_bleu_must_be():
    long, short = "a b c d e f".split(), "a b c d".split()
    assert sentence_bleu(long, [long]).score == 1
    assert sentence_bleu(short, [long, short]) == sentence_bleu(short, [short, long])
    assert sentence_bleu(long, [short]).brevity_penalty == 1
    one, two = sentence_bleu(short, [long]), sentence_bleu(short, [long, "a b x".split()])
    assert all(more >= less for less, more in zip(one.precisions, two.precisions, strict=True))
    # Smoothed, three words have a perfect precision of the order that they are too short for.
    assert sentence_bleu("a b c".split(), ["a b c".split()]).score == 1
    assert sentence_bleu("a b c".split(), ["a b c".split()], smooth=False).score == 0
    for references in ([], [[]], [long, []]):
        with pytest.raises(ValueError, match="needs a reference"):
            sentence_bleu(long, references)


def test_rewards_read_a_tag_and_take_the_best_of_several_references():
    for name in ("bleu", "chrf", "rouge"):
        assert score(name, THEIRS, THEIRS) == pytest.approx(1)
        assert score(name, "", THEIRS) == 0 == score(name, THEIRS, THEIRS, tag="answer")
        assert score(name, f"so <answer>{THEIRS}</answer>", THEIRS, tag="answer") == pytest.approx(
            1
        )
        assert score(name, OURS, ["x y", THEIRS]) >= score(name, OURS, THEIRS) > 0
    with pytest.raises(ValueError, match="Unknown kind of ROUGE 'rougel'.*mean 'rougeL'"):
        score("rouge", OURS, THEIRS, kind="rougel")


def test_a_longest_common_subsequence_has_gaps():
    assert common_subsequence("abcbdab", "bdcaba") == 4
    assert common_subsequence("", "a") == 0
