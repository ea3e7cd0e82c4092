"""The table of latent chain of thought: methods that need no verifier beside those that have one.

problems.py  chained modular arithmetic with short and long answers, as files
methods.py   the config of each method, from one warmed-up policy
table.py     what the runs ended with, and whether claimed orderings hold
run.py       the runs of all seeds, which go on where they were interrupted

`launch/latent.py` is the command.
"""
