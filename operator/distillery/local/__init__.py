"""A DistillationJob on one machine: the same plan and stages as local processes, with a folder in place of the object store."""
