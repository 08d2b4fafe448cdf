"""`delayline doctor`: what stands between this machine and a run, each with its remedy."""

from typing import Annotated

import typer

from service.cli.console import print_json, printable
from service.cli.options import AsJson, InsecureToken, StoreUrl
from service.errors import StoreError
from service.records.command_answers import Diagnosis, DoctorCheck
from service.settings import Settings

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def doctor(
    store: StoreUrl = None,
    cluster: Annotated[
        str | None,
        typer.Option(metavar="URL", help="A cluster's dashboard, http://HOST:8265; without it RAY_ADDRESS or Ray here."),
    ] = None,
    insecure_token: InsecureToken = False,
    as_json: AsJson = False,
) -> None:
    """Check store, cluster, token, packages and GPUs within ten seconds; nothing is left in the store.

    Ends with 0 when all is well, else with 5.
    """
    from service.doctor import diagnose

    lines = diagnose(Settings.load(store=store, cluster=cluster, insecure_token=insecure_token or None))
    wrong = [line for line in lines if line.status == "failed"]
    if as_json:
        checks = [
            DoctorCheck(check=line.name, status=line.status, text=line.text, seconds=round(line.seconds, 3)) for line in lines
        ]
        print_json(Diagnosis(ok=not wrong, checks=tuple(checks)).document())
    else:
        widths = [max(len(getattr(line, name)) for line in lines) for name in ("status", "name")]
        for line in lines:
            print(printable(f"{line.status.ljust(widths[0])}  {line.name.ljust(widths[1])}  {line.text}").replace("\n", " "))
    if wrong:
        raise typer.Exit(StoreError.exit_code)
