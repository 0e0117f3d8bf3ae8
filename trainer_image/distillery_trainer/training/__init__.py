"""What the loop of `stages/train.py` stands on: batches, checkpoints, the optimizer."""
