"""Learning problems, one file each; registry.py finds them by name."""
