"""One run from its lease to its final state: attempts, retries, time limit. Never TensorFlow. Begin with driver.py."""
