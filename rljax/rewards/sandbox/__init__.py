"""Programs that nobody has read, run under limits. README.md says what is promised.

| file | what it holds |
| --- | --- |
| `limits.py` | what a program may use, what is run, how it ended |
| `sandbox.py` | runs programs: the owner's side |
| `warden.py` | the process that runs them for its owner |
| `programs.py` | starts them, watches them, ends them |
| `confinement.py` | from a fork of the warden to the program: every limit, in order |
| `layers.py` | the means: what each consists of and promises; command lines of bwrap and nsjail |
| `means.py` | which means work here |
| `visible.py` | the files of the machine that a program sees |
| `watch.py` | what a tree of processes uses |
| `descendants.py` | processes below this one: found and ended |
| `kernel.py`, `landlock.py`, `seccomp.py` | system calls of Linux |
| `__main__.py` | `python -m rljax.rewards.sandbox FILE` |
"""
