"""Kills runs at random moments of every phase, and compares them with one that was never killed.

| file | what it holds |
| --- | --- |
| `marks.py` | what a run says of its phases while it runs |
| `plan.py` | which phase is hit next, by which signal, and when |
| `attempt.py` | one process of a run, killed or not, and how it ended |
| `faults.py` | damage between two processes: a flipped bit |
| `compare.py` | whether two workdirs hold the same run |
| `campaign.py` | reference, rounds of killed runs, verdict |
| `table.py` | the verdict as a table |
| `found.json`, `found.py` | what such campaigns have come to, and the table of it |
"""
