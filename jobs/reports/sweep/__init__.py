"""The page of a sweep. Begin with page.py."""
