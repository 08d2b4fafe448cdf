"""What a user chooses at an import, beyond the files: columns, the ground under transparency, whether NaN is allowed."""

from dataclasses import dataclass, fields

from service.errors import InvalidInput

GROUNDS = ("white", "black")


def other_ground(ground: str) -> str:
    """Black for white, and white for black."""
    return next(each for each in GROUNDS if each != ground)


@dataclass(frozen=True)
class Choices:
    """The options of `data import`, as they were given; each None, empty or False where it was not.

    A format names in `takes` (a tuple of these fields' names beside its `read`) which of them mean something to it.
    """

    features: tuple[str, ...] | None = None
    """The columns that are features, in their order."""
    label: str | None = None
    """The column or array that holds the labels."""
    one_hot: tuple[str, ...] = ()
    """Columns of texts that become one number, 0 or 1, for each text."""
    ground: str | None = None
    """What transparent pictures are laid over: `white` or `black`."""
    allow_nan: bool = False
    """Whether features may hold NaN and infinity."""

    def __post_init__(self) -> None:
        if self.ground is not None and self.ground not in GROUNDS:
            raise InvalidInput(f"--ground is {self.ground[:60]!r}: use {' or '.join(GROUNDS)}.")

    def check_taken(self, format_name: str, taken: tuple[str, ...]) -> None:
        """Raise InvalidInput for an option that was given and means nothing to the format: nothing is passed over in silence."""
        for field in fields(self):
            if field.name not in taken and getattr(self, field.name) != field.default:
                option = "--" + field.name.replace("_", "-")
                raise InvalidInput(f"{option} means nothing for --format {format_name}: leave it out.")


NONE = Choices()
