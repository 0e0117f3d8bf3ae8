"""Manifests of the worlds, and the terms that their teacher comes under."""

from __future__ import annotations

from distillery.cluster import Body
from distillery.terms import parse_catalogue

OUTPUT = "s3://models/tiny"
MINIMAL: Body = {
    "teacher": {"model": {"uri": "hf://org/teacher"}},
    "student": {"model": {"uri": "hf://org/student"}},
    "data": {"train": {"uri": "s3://data/train.jsonl"}},
    "output": {"uri": OUTPUT},
}
ENDPOINT: Body = {
    "teacher": {"endpoint": {"teacher": "gpt-x", "shards": 2}},
    "budgetRef": {"name": "team"},
    "governance": {"declaredUse": {"purpose": "internal", "competes": False}},
    "student": {"model": {"uri": "hf://org/student"}},
    "data": {"train": {"uri": "s3://data/train.jsonl"}},
    "output": {"uri": OUTPUT},
}
BUDGET: Body = {
    "limits": {"daily": "10.00"},
    "teachers": [
        {
            "name": "gpt-x",
            "baseURL": "https://teacher.example/v1",
            "model": "gpt-x-1",
            "prices": {"inputPerMillion": "1.00", "outputPerMillion": "2.00"},
            "terms": {"service": "ours"},
        }
    ],
}
TERMS = parse_catalogue(
    """
version: test
entries:
- id: ours
  kind: service
  title: Our own terms
  provider: us
  clause: section 1
  url: https://teacher.example/terms
  retrieved: "2026-01-01"
  review_by: "2027-01-01"
  rules:
  - {when: {competes: true}, effect: deny, message: answers may not train a competitor}
  - {when: {purpose: [commercial]}, effect: requireApproval, message: to earn money with it needs an approval}
  - {effect: permit, message: go ahead}
"""
)
EXPORTS: Body = {
    "exports": [
        {"name": "q4", "format": "gguf", "quantization": "q4_0"},
        {"name": "web", "format": "onnx", "quantization": "int8"},
    ]
}
DIGESTS = {name: name * 4 for name in ("teacher", "traces", "student", "train", "evaluation")}
