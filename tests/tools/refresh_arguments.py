"""Write what Keras' optimizers, schedules and callbacks take, for the plan that does not import it: `just arguments`."""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

TABLE = Path(__file__).parents[2] / "service" / "checks" / "keras_arguments.py"
_HEAD = '''"""The arguments of Keras' optimizers, schedules and callbacks, and of Delayline's own schedules, with their defaults.

Written by `just arguments` for Keras {version}; a test compares it with Keras. `...` stands for one that must be given.
"""

from typing import Any

'''


def taken(kind: Callable[..., Any], given: tuple[str, ...] = ()) -> dict[str, Any]:
    """The arguments that a spec may give by name, with their defaults; `given` are not its own to give."""
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {
        name: ... if parameter.default is inspect.Parameter.empty else parameter.default
        for name, parameter in inspect.signature(kind).parameters.items()
        if parameter.kind in named and name not in {"self", "name", *given}
    }


def table() -> str:
    """The module's source."""
    import keras
    from keras.optimizers import schedules

    from jobs.training.optimizers import SCHEDULES
    from service.specs.choices import CALLBACKS, KERAS_SCHEDULES, OPTIMIZERS

    optimizers = {name.lower(): kind for name, kind in vars(keras.optimizers).items() if name.lower() in OPTIMIZERS}
    return _HEAD.format(version=keras.__version__) + "\n".join(
        [
            _dictionary("OPTIMIZER_ARGUMENTS", {name: taken(optimizers[name]) for name in sorted(OPTIMIZERS)}),
            _dictionary(
                "SCHEDULE_ARGUMENTS",
                {
                    **{name: taken(SCHEDULES[name], ("total_steps",)) for name in sorted(SCHEDULES)},
                    **{name: taken(getattr(schedules, name)) for name in sorted(KERAS_SCHEDULES)},
                },
            ),
            _dictionary("CALLBACK_ARGUMENTS", {name: taken(getattr(keras.callbacks, name)) for name in sorted(CALLBACKS)}),
        ]
    )


def _dictionary(name: str, values: Mapping[str, Mapping[str, Any]]) -> str:
    lines = [f"{name}: dict[str, dict[str, Any]] = {{"]
    for each, arguments in values.items():
        lines.append(f'    "{each}": {{')
        lines += [f'        "{argument}": {_shown(default)},' for argument, default in arguments.items()]
        lines.append("    },")
    return "\n".join([*lines, "}", ""])


def _shown(default: Any) -> str:
    if default is ...:
        return "..."
    return f'"{default}"' if isinstance(default, str) else repr(default)


if __name__ == "__main__":
    TABLE.write_text(table())
    print(f"wrote {TABLE}")
