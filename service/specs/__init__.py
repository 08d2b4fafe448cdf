"""What to run: the specs that users write, checked in full before anything starts."""
