"""What the report needs of a model while it is in memory: its layers, its filters, its mistakes. Begin with analyse.py."""
