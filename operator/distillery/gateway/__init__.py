"""The gateway: the one place that stage pods talk to. Here it takes their progress; it has an image in common with the operator."""
