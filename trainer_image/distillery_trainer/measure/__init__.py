"""Metrics, gates, and the held-out rows that they are measured on."""
