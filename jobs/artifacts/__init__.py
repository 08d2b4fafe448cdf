"""What a run leaves in the store: checkpoints, progress, events, logs, TensorBoard files, the model."""
