"""The contract: everything that crosses a border (CRD, ConfigMap, termination message) is typed here.

Floor 1. Imports pydantic and the standard library only; the control plane, the gateway, the local run and the trainer share it.
"""
