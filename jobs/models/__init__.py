"""Architectures, one file each; registry.py finds them by name and checks what they build."""
