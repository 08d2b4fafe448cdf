"""The options that several commands share."""

from typing import Annotated

import typer

from service.cli.completion import run_ids

StoreUrl = Annotated[
    str | None,
    typer.Option(
        "--store", metavar="URL", help="A folder, file:///folder or s3://bucket/prefix. [DELAYLINE_STORE, ./delayline-store]"
    ),
]
StoreCluster = Annotated[
    str | None,
    typer.Option(
        "--cluster", metavar="URL", help="kube://NAMESPACE: use the store that this cluster's defaults name. [DELAYLINE_CLUSTER]"
    ),
]
TrustFolder = Annotated[
    bool,
    typer.Option(
        "--trust-folder",
        help="Import the run's own module from the folder that the store names; else from the current one alone.",
    ),
]
InsecureToken = Annotated[
    bool,
    typer.Option(
        "--insecure-token",
        help="Send the Ray cluster's token by http to another machine too. [DELAYLINE_INSECURE_TOKEN]",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="The run's id.", autocompletion=run_ids)]
