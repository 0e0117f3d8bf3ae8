"""Losses: pure formulae, and the chunked kernel that runs them."""
