"""Several processes, simulated in one: time, machines that stop and die, and what connects them.

The real parts that decide something run on these, one step after the other, as one seed wants it.
"""
