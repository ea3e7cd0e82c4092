"""The processes of one run: who they are, whether they fit, and how they end together.

processes.py   what the training code sees: gather, barrier, agree, beat; trivial for one process
comparison.py  who differs from whom, and in what
"""
