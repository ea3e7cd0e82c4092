"""Tables of methods that start from one warmed-up policy, each a run of the host loop.

study.py   what a study is: tasks, configs of its methods, measures, claims
run.py     the runs of all seeds, which go on where they were interrupted
table.py   what the runs ended with, and whether claimed orderings hold

`comparison/latent/` and `comparison/diffusion/` are two of them.
"""
