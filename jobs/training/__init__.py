"""One attempt in one worker, in TensorFlow: data, ring, model, restore, loop, evaluation. Begin with trainer.py."""
