"""What the commands of launch/ share: flags, errors, exit status.

parser.py   flags, of one style, with a message that names the nearest one
interrupts.py  Ctrl-C while a command imports
run.py      a command from its words to its exit status
statuses.py the exit statuses, and which of them mean: start again
cores.py    every core of a CPU as a device of its own
paths.py    files and folders that a command writes, looked at before it begins
"""
