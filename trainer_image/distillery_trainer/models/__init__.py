"""A causal language model, whoever it is: its files, device, head, scoring and decoding."""
