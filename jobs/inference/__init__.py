"""The model of a run that succeeded: predictions, exported files."""
