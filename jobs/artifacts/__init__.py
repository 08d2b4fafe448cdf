"""What a run writes to the store: checkpoints, progress, events, logs, TensorBoard files, the model."""
