"""Who learns: where it comes from, its layers and adapters."""
