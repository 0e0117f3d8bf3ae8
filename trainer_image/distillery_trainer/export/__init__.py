"""A trained student as files for edge targets, and the runtimes that these files are measured in."""
