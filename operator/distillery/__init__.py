"""Distillery: LLM distillation as a Kubernetes resource."""
