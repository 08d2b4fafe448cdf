"""One worker process: what the driver tells it, its log and its watchers, whose fault a failure is. Begin with process.py."""
