from service.records.differences import differing


def test_names_differences_at_any_depth() -> None:
    found = differing({"a": 1, "b": {"c": {"d": 1}, "e": [1]}}, {"b": {"c": {"d": 2}, "e": [1]}, "f": "x"})
    assert found == [("a", "a is 1 there, null here"), ("b", "b.c.d is 1 there, 2 here"), ("f", 'f is null there, "x" here')]


def test_names_differences_within_lists_of_the_same_length() -> None:
    found = differing(
        {"base": [{"n": 1}, {"n": 2, "v": [3, 4]}], "u": [1]}, {"base": [{"n": 1}, {"n": 5, "v": [3, 6]}], "u": [1, 2]}
    )
    wanted = ["base.1.n is 2 there, 5 here", "base.1.v.1 is 4 there, 6 here", "u is [1] there, [1, 2] here"]
    assert [line for _, line in found] == wanted
