"""What runs in the stage pods of a DistillationJob, and in a local run of one."""
