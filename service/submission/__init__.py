"""From a request to a running driver: plan, submit, supervise."""
