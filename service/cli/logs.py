"""`delayline runs logs --follow`: what the processes of a run print, while it lives."""

from service.cli.console import print_json, printable, say
from service.records.run_record import RunRecord
from service.runs.log_follower import follow
from service.storage.base import Store


def heading(attempt: int, rank: int | None) -> str:
    """What stands above the lines of one process."""
    return f"==> attempt {attempt}, {'driver' if rank is None else f'rank {rank}'} <=="


def follow_logs(store: Store, run: str, attempt: int | None, rank: int | None, as_json: bool) -> None:
    """Print each line as soon as the store has it; with `as_json` all of them as one document, at the run's end."""
    RunRecord(store, run).submission()
    texts: dict[tuple[int, int | None], str] = {}
    shown: tuple[int, int | None] | None = None
    for lines in follow(store, run, attempt, rank):
        where = (lines.attempt, lines.rank)
        if as_json:
            texts[where] = texts.get(where, "") + lines.text
            continue
        if where != shown:
            say(heading(*where))
        if lines.skipped:
            say("(lines between were not kept)")
        print(printable(lines.text), end="" if lines.text.endswith("\n") else "\n", flush=True)
        shown = where
    if as_json:
        from service.records.command_answers import Log

        print_json([Log(attempt=number, rank=worker, text=text).document() for (number, worker), text in texts.items()])
    else:
        say(f"run {run} is {RunRecord(store, run).state().state}")
