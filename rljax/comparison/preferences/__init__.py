"""The table of preference losses: which of them recover a known reward from noisy labels.

| file | what it holds |
| --- | --- |
| `task.py` | the problem: policies and a gold reward as tables, with exact sums |
| `draws.py` | pairs with noisy labels, groups of them, labels of tokens |
| `losses.py` | the loss of a method on rows, by the functions that training uses |
| `methods.py` | what is compared, and the claims of papers |
| `fit.py` | training, many seeds in one program |
| `measures.py` | gold reward, KL, reward accuracy and ranking accuracy |
| `run.py` | all runs of the table, with rates chosen on seeds of their own |
| `table.py` | the tables, verdicts and claims |
| `proxy.py` | a reward model of few pairs, and policies that are optimised against it |
| `overoptimisation.py` | all runs of the table of over-optimisation, beside DPO |
| `proxy_table.py` | that table and its claims |

`launch/preferences.py` is the command; README.md shows what it finds, out of found.json and
overoptimisation.json.
"""
