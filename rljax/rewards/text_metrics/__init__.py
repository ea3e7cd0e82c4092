"""How much of a reference text a completion says, as numbers in [0, 1].

| file | what it holds |
| --- | --- |
| `bleu.py` | BLEU of one sentence, and the 13a words that it counts |
| `chrf.py` | chrF: F-score of character n-grams |
| `rouge.py` | ROUGE-N and ROUGE-L: F-score of words |
| `rewards.py` | these as rewards |
"""
