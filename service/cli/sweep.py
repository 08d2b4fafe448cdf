"""`delayline sweep`: plan the trials of a search space, submit them, stay with them."""

import typer

from service.cli.submission import command_for

HELP = """Train a network at many points of a search space, and show the best; without SPEC that is sweep-digits.

Ctrl-C lets the running trials save a checkpoint and stops; Ctrl-C again stops at once. --resume continues;
with a larger budget or more trials, such as -s budget=4h, also a sweep that came to its end.
"""

app = typer.Typer(rich_markup_mode=None, add_completion=False)
app.command("sweep", help=HELP)(command_for("sweep"))
