"""Runs as anyone can read them from the store: list, show, watch, logs, cancel."""

from service.records.standing import cancel
from service.runs.describe import list_runs, show
from service.runs.log_files import Log, LogPart, log_parts, logs
from service.runs.updates import Update, watch

__all__ = ["Log", "LogPart", "Update", "cancel", "list_runs", "log_parts", "logs", "show", "watch"]
