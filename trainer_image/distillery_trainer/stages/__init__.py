"""One module per kind of stage: `run`, perhaps `conclude`. None imports another."""
