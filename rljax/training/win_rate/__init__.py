"""How often one set of completions is preferred to another one, prompt by prompt.

| file | what it holds |
| --- | --- |
| `completions.py` | two files of completions, brought together by their prompts |
| `figures.py` | outcomes to a win rate with its interval, and one for completions of equal length |
| `passes.py` | what a model says of completions, so many at a time |
| `preferences.py` | who prefers: rewards of the files, a reward model, a judge |
"""
