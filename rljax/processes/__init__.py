"""The processes of one run: who they are, whether they fit, and how they end together.

README.md tells what happens when. From the beginning of a run to its end:

settings.py      `config.processes` as plain values
identity.py      who this process is: fields of the config, then the environment
environments.py  what Slurm, Open MPI, GKE, JobSet, Cloud TPU and our launcher say
metadata.py      attributes of a Cloud TPU machine
facts.py         what must be the same everywhere: code, versions, config, variables
comparison.py    who differs from whom, and in what
frames.py        messages over TCP: a header in JSON, and bytes
roll_call.py     all processes come to process 0, and are compared
same_place.py    whether the workdir is one folder for all
start.py         the whole start, with jax, and the end
processes.py     what the training code sees: gather, barrier, agree, beat; trivial for one process
link.py          what connects a process with the others; hub.py for process 0, member.py for others
hub.py           gathers what all send, hears who is alive, says how all end
member.py        sends to process 0, and hears from it
ends.py          which end counts for all
lifeline.py      the end of this process, when another one ends them all
watchdog.py      whether the main thread goes on
stacks.py        the stacks of all threads, at such an end
local.py         several processes on this machine, for launch/hosts.py
"""
