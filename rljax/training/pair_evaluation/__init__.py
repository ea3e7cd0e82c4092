"""How good a model is on held-out pairs, on the host.

| file | what it holds |
| --- | --- |
| `scores.py` | scores of a reward model: accuracy, calibration, where it errs |
| `ranking.py` | log-probabilities of a policy: ranking accuracy, and what it could be |
| `heldout.py` | the held-out pairs of a preference stage |
"""
