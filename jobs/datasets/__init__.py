"""The arrays and streams that a spec asks for. Begin with load.py."""
