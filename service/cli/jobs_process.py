"""Commands that TensorFlow answers run as `python -m jobs.<verb>`, a process of its own."""

import subprocess
import sys

import typer

from service.errors import InfrastructureFailure
from service.settings import Settings, process_environment
from service.user_folder import python


def run_job(settings: Settings, verb: str, *arguments: str, capture: bool = False) -> str:
    """Run it to its end; what it printed on standard output if `capture`. Its failure, told already, ends this command."""
    # Every command takes --debug, before or behind its name: `main` has taken it out of what this one was given.
    debug = ["--debug"] if "--debug" in sys.argv[1:] else []
    argv = [*python(f"jobs.{verb}"), *debug, *arguments]
    environment = process_environment(**settings.for_processes())
    output = subprocess.PIPE if capture else None
    done = subprocess.run(argv, env=environment, stdin=subprocess.DEVNULL, stdout=output, text=True, check=False)
    if done.returncode < 0:
        raise InfrastructureFailure(f"The process of {verb} was ended by signal {-done.returncode}: run the command again.")
    if done.returncode:
        raise typer.Exit(done.returncode)
    return done.stdout or ""
