"""The command `delayline`: finds the command's module, calls it, and turns errors into one sentence and an exit code."""

import contextlib
import importlib
import os
import sys
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from service.errors import Cancelled, DelaylineError, UserFailure

COMMANDS = {
    "train": ("service.cli.train", "Train a network on any number of workers."),
    "sweep": ("service.cli.sweep", "Train a network at many points of a search space."),
    "runs": ("service.cli.runs", "List, show, watch, report, compare, cancel and prune runs; read their logs."),
    "data": ("service.cli.data", "Import, list, show and verify datasets."),
    "predict": ("service.cli.predict", "Let a run's model classify pictures or arrays."),
    "export": ("service.cli.export", "Write a run's model for use elsewhere."),
    "recipes": ("service.cli.recipes", "List the specs that ship with Delayline."),
    "schema": ("service.cli.schema", "Print the JSON Schema of what commands print with --json."),
    "doctor": ("service.cli.doctor", "Check store, cluster, packages and GPUs, and say the remedy."),
}
"""Each command's module, which has a typer `app`, and its line in the help."""


class LazyCommands(TyperGroup):
    """Imports a command's module only when that command is called, so that the help is there at once."""

    def list_commands(self, _: Any) -> list[str]:
        """The names of all commands."""
        return list(COMMANDS)

    def get_command(self, _: Any, cmd_name: str) -> Any:
        """Import the command; for an unknown one import all, among which the error message seeks a close name."""
        for name in [cmd_name] if cmd_name in COMMANDS else COMMANDS:
            if name not in self.commands:
                command = typer.main.get_command(importlib.import_module(COMMANDS[name][0]).app)
                command.name = name
                self.add_command(command, name)
        return self.commands.get(cmd_name)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """The commands that begin so, without importing any; options where one is being typed."""
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        from typer._click.shell_completion import CompletionItem

        return [CompletionItem(name, help=line) for name, (_, line) in COMMANDS.items() if name.startswith(incomplete)]

    def format_commands(self, _: Any, formatter: Any) -> None:
        """The list of commands in the help, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


app = typer.Typer(
    cls=LazyCommands,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    # Delayline itself prints no colours; that way what installs the completion prints none either.
    context_settings={"help_option_names": ["-h", "--help"], "color": False},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"delayline {version('delayline')}")
        raise typer.Exit


@app.callback()
def main(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error; every command takes it.")] = False,
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    """Train TensorFlow networks on one machine or many: the same run at any number of workers."""


def run() -> int:
    """Call the command that the arguments name; return its exit code."""
    # Every command takes --debug, before or behind its name, so it is taken out for all of them here.
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _call(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has gone, as `head` does; a second attempt to flush at exit would print a traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return Cancelled.exit_code
    except Exception as error:
        return report(error, debug)
    return code


def entry() -> NoReturn:
    """The command as a process. One that a person has stopped does not wait for what its threads still ask of a store."""
    code = run()
    if code == Cancelled.exit_code:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)
    sys.exit(code)


def _call(arguments: list[str]) -> int:
    try:
        app(arguments, prog_name="delayline")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    return 0


def report(error: Exception, debug: bool) -> int:
    """Print an error as one sentence, with its traceback if wanted; return its exit code."""
    from service.cli.console import say

    if debug:
        import traceback

        traceback.print_exception(error)
        if isinstance(error, UserFailure) and error.user_traceback:
            say(error.user_traceback)
    if isinstance(error, DelaylineError):
        say(str(error) if isinstance(error, Cancelled) else f"Error: {error}")
        return error.exit_code
    hint = "" if debug else " Run the command again with --debug for the traceback."
    what = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    say(f"Error: Delayline itself failed by {what}; please report it.{hint}")
    return DelaylineError.exit_code


if __name__ == "__main__":
    entry()
