"""`delayline recipes [NAME]`: the specs that ship with Delayline."""

from typing import Annotated

import typer

from service import recipes as known
from service.cli.completion import recipe_names
from service.cli.console import print_json, print_yaml
from service.cli.options import AsJson

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def recipes(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Show this recipe with its whole spec.", autocompletion=recipe_names)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the specs that ship with Delayline, each with the figure of the lecture or paper and the one reached."""
    found = [known.describe(each) for each in ([name] if name else known.names())]
    if as_json:
        print_json(found[0] if name else found)
    elif name:
        print_yaml(found[0])
    else:
        for row in found:
            figures = f"reached: {row['reached'] or '-'}; reference: {row['reference']}"
            print(f"{row['name']}\n  {row['description'].strip()}\n  {figures}")
