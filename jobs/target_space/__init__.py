"""The space in which the optimizer works: the weights themselves, or targets from which they follow. Begin with space.py."""
