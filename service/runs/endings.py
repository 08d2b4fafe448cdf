"""How a run's end is told: the error that it stands for, and the command that continues it."""

from service.errors import Cancelled, InfrastructureFailure, UserFailure, for_exit_code
from service.records.run_record import Document
from service.records.schemas import RunState


def again_command(run_id: str, noun: str) -> str:
    """What continues a run or a sweep."""
    return f"delayline {'sweep' if noun == 'sweep' else 'train'} --resume --name {run_id}"


def raise_for(run_id: str, document: Document) -> None:
    """Raise what the final state of a run stands for; return if it succeeded."""
    state, error = document["state"], document.get("error") or {}
    if state == RunState.SUCCEEDED:
        return
    if state == RunState.CANCELLED:
        noun = "sweep" if (document.get("summary") or {}).get("kind") == "sweep" else "run"
        raise Cancelled(f"The {noun} {run_id} was cancelled; continue it with: {again_command(run_id, noun)}")
    message = str(error.get("message") or f"The run {run_id} {state}.")
    code = int(document.get("exit_code") or error.get("exit_code") or InfrastructureFailure.exit_code)
    where = f" (`delayline runs logs {run_id}` shows the stack)" if code == UserFailure.exit_code else ""
    raise for_exit_code(code, f"{message}{where}", str(error.get("traceback") or ""))


def lost(run_id: str, noun: str = "run") -> InfrastructureFailure:
    """The error for a run that nobody drives any more."""
    return InfrastructureFailure(f"The {noun} {run_id} was lost: nobody drives it any more; submit it again to continue.")
