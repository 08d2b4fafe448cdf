"""A run's documents in the store: claimed once, written under a lease, read by anyone. Begin with run_record.py."""
