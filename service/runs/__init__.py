"""Runs as anyone can read them from the store: list, show, watch, logs, cancel."""

from service.runs.describe import Log, LogPart, Update, cancel, list_runs, log_parts, logs, show, watch

__all__ = ["Log", "LogPart", "Update", "cancel", "list_runs", "log_parts", "logs", "show", "watch"]
