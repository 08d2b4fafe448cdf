"""Reports: one HTML page for a run, a sweep or a comparison, made from what the store holds. No TensorFlow. Begin with write.py."""
