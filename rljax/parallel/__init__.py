"""Mesh, logical-axis rules and array placement.

mesh.py   the device mesh (axes data, fsdp, expert, context, tensor) and its validation
rules.py  the one table from logical axis names to mesh axes, and what follows from it
halfway.py  arrays to other devices of the same processes
host.py   results of all processes' devices, whole on every host
collectives.py  whether the devices of a mesh reach each other
"""
