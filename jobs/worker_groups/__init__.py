"""Where the workers of a run come from: Ray Train, or a thread of a warm process. Begin with base.py."""
