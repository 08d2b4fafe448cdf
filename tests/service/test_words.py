from service.words import clock, size


def test_sizes_have_the_unit_that_fits() -> None:
    counts = (0, 1023, 1536, 5 * 1024**2, 3 * 1024**3 / 2, 2 * 1024**4)
    assert [size(count) for count in counts] == ["0 B", "1023 B", "2 KiB", "5 MiB", "1.5 GiB", "2.0 TiB"]


def test_a_time_since_a_beginning_has_hours_only_where_there_are_any() -> None:
    assert [clock(seconds) for seconds in (-1, 7.4, 750, 3723)] == ["0:00", "0:07", "12:30", "1:02:03"]
