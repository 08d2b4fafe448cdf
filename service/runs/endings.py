"""How commands report a run's end: the error that it stands for, and the command that continues it."""

from service.errors import Cancelled, InfrastructureFailure, UserFailure, for_exit_code
from service.records.schemas import Failure, RunState, StateDocument


def again_command(run_id: str, noun: str) -> str:
    """What continues a run or a sweep."""
    return f"delayline {'sweep' if noun == 'sweep' else 'train'} --resume --name {run_id}"


def raise_for(run_id: str, state: StateDocument) -> None:
    """Raise what the final state of a run stands for; return if it succeeded."""
    if state.state == RunState.SUCCEEDED:
        return
    if state.state == RunState.CANCELLED:
        noun = "sweep" if state.summary is not None and state.summary.kind == "sweep" else "run"
        raise Cancelled(f"The {noun} {run_id} was cancelled; continue it with: {again_command(run_id, noun)}")
    error = state.error or Failure(message=f"The run {run_id} {state.state}.")
    code = state.exit_code or error.exit_code or InfrastructureFailure.exit_code
    where = f" (`delayline runs logs {run_id}` shows the stack)" if code == UserFailure.exit_code else ""
    raise for_exit_code(code, f"{error.message}{where}", error.traceback)


def lost(run_id: str, noun: str = "run") -> InfrastructureFailure:
    """The error for a run that nobody drives any more."""
    return InfrastructureFailure(f"The {noun} {run_id} was lost: nobody drives it any more; submit it again to continue.")
