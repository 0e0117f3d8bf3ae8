"""The training run: steps, batches, learning rate, checkpoints."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .base import Model, NonNegativeDecimal, PositiveDecimal, Ratio


class Checkpoint(Model):
    """When the state of training is saved; it is saved on SIGTERM as well."""

    every_steps: int = Field(100, ge=1, le=1000000, description="Optimizer steps between two checkpoints.")


class Training(Model):
    """AdamW (Loshchilov & Hutter, 2019) on one node."""

    nodes: Literal[1] = Field(1, description="Training nodes; this version trains on one.")
    global_batch_size: int = Field(32, ge=1, le=65536, description="Rows per optimizer step.")
    micro_batch_size: int | None = Field(
        None, ge=1, le=65536, description="Rows per forward pass; the rest is accumulated. All rows of a step at once if absent."
    )
    max_steps: int | None = Field(None, ge=1, le=10000000, description="Optimizer steps; takes precedence over epochs.")
    epochs: int = Field(3, ge=1, le=10000, description="Passes over the rows, where maxSteps is absent.")
    max_sequence_length: int = Field(1024, ge=8, le=1048576, description="Longest prompt with completion, in tokens.")
    learning_rate: PositiveDecimal = Field("0.0003", description="Peak learning rate.")
    schedule: Literal["constant", "linear", "cosine"] = Field(
        "cosine", description="How the learning rate falls after the warm-up; linear and cosine end at 0."
    )
    warmup_ratio: Ratio = Field("0.03", description="Part of the steps over which the learning rate rises from 0.")
    weight_decay: NonNegativeDecimal = Field("0.01", description="Decoupled weight decay, on matrices only.")
    max_grad_norm: PositiveDecimal = Field("1.0", description="Gradients are scaled down to this norm.")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto: bfloat16 autocast where the GPU has it, else float32."
    )
    seed: int = Field(0, ge=0, le=2147483647, description="Seed of initialisation, order of rows and dropout.")
    checkpoint: Checkpoint = Field(default_factory=Checkpoint, description="Checkpointing.")
