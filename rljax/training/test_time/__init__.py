"""Search at test time: what a budget of tokens buys, without training.

    n samples of each held-out problem ─► choices among k of them     (parallel)
    chains of attempts, each of which reads those before it           (sequential)
    beams, whose beginnings a reward or value model compares          (beam, lookahead)

| file | what it holds |
| --- | --- |
| `settings.py` | what a study tries: strategies, budgets, sizes of beams and chains |
| `scorer.py` | what a reward or value model says of texts, whole or half written |
| `choices.py` | accuracy of the choices among k of n samples |
| `chains.py` | attempts one behind the other |
| `beams.py` | beam search over pieces of completions, with lookahead |
| `study.py` | all of them on the held-out problems of a run, with their cost |
"""
