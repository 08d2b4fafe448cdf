"""`delayline train`: plan a run, submit it, stay with it."""

import typer

from service.cli.submission import command_for

HELP = """Train a network on any number of workers, and stay with the run until its end; without SPEC that is cnn-digits.

Ctrl-C saves a checkpoint and cancels the run; Ctrl-C again stops it at once.
"""

app = typer.Typer(rich_markup_mode=None, add_completion=False)
app.command("train", help=HELP)(command_for("train"))
