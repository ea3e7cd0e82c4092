"""How a run is brought onto a pod: settings become text, and text is run.

README.md tells what each kind does. Nothing here imports jax, and no file holds a secret.

machines.py  TPU generations: slices, hosts, and how Google Cloud calls them
names.py     names that Kubernetes, Slurm and shells take
secrets.py   what looks like a key is refused
restarts.py  which exit statuses are worth another start, and how long is waited for machines
script.py    what every host runs: the preflight, then the training
jobset.py    a JobSet of Kubernetes for TPU slices of GKE
xpk.py       the same as a command of xpk
slurm.py     a batch script of Slurm for nodes with GPUs
hosts.py     TPU VMs by gcloud, and hosts of a list by ssh
steps.py     commands as steps: shown by a dry run, done by --run
"""
