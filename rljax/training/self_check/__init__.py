"""What a run checks of itself in its first step, before any update counts for more.

`config.checks` switches each check off by name. Whatever fails ends the run with one error that
names the row, before the second step.

| file | what it holds |
| --- | --- |
| `first_step.py` | when what is checked |
| `tokens.py` | the ends of completions are learned |
| `policies.py` | log-probabilities, sampler against trainer, ratios, losses of closed form |
| `hosts.py` | all processes are about to do the same |
| `example.py` | one example for people: what is read, what is learned, where it ends |
"""
