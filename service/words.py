"""Sizes and times as people read them, in the command line and in reports."""


def size(count: float) -> str:
    """Bytes as `12 B`, `3 MiB` or `1.5 GiB`."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB" if count < 1024 else f"{count / 1024:.1f} TiB"


def clock(seconds: float) -> str:
    """Time since a beginning: `0:07`, `12:30` or `1:02:03`."""
    minutes, rest = divmod(round(max(seconds, 0.0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
