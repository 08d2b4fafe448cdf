"""Numbers, shares and lists as people read them."""

import pytest

from jobs.reports.words import duration, listed, percent, plural


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (duration(0.04), "0.0 s"),
        (duration(9.94), "9.9 s"),
        (duration(59.6), "1 min 00 s"),
        (duration(3599.6), "1 h 00 min"),
        (percent(1.0), "100%"),
        (percent(0.99999), "99.99%"),
        (percent(0.975), "97.50%"),
        (percent(0.8996), "90.0%"),
        (listed(["a", "b", "c"]), "a, b and c"),
        (plural(1, "class"), "1 class"),
        (plural(1200, "class"), "1,200 classes"),
    ],
)
def test_words(made: str, text: str) -> None:
    assert made == text
