"""Which points a sweep proposes, and that TPE learns from what was found."""

from typing import Any

from jobs.sweeps.search import Proposer
from service.specs.sweep import SweepSpec
from service.sweeps.points import Points

BASE = {"model": "lenet5", "dataset": "digits", "epochs": 9}


def sweep(**keys: Any) -> SweepSpec:
    space = {
        "optimizer.learning_rate": {"uniform": [0.0001, 1.0]},
        "batch": {"choice": [16, 32]},
        "epochs": {"expression": "batch / 16"},
    }
    return SweepSpec.model_validate(
        {"base": [{"name": "b", "values": BASE}], "space": space, "search": "random", "trials": 30, **keys}
    )


def test_points_are_proposed_in_order_and_known_ones_are_not_proposed_again() -> None:
    spec = sweep(trials=5)
    points, first = Points(spec), Proposer(spec)
    assert [first.propose() for _ in range(6)] == [*(points.point(number) for number in range(5)), None]
    second = Proposer(spec)
    second.known(points.point(0))
    second.known(points.point(2))
    assert second.propose() == points.point(3)


def test_tpe_draws_where_it_was_good() -> None:
    proposer = Proposer(sweep(search="tpe", trials=60))
    rates = []
    while (point := proposer.propose()) is not None:
        rate = point.params["optimizer.learning_rate"]
        assert point.params["epochs"] == point.params["batch"] / 16
        rates.append(rate)
        proposer.tell(point, [1 - (rate - 0.3) ** 2])
    late = rates[30:]
    assert sum(abs(rate - 0.3) < 0.15 for rate in late) > 0.6 * len(late)


def test_tpe_learns_from_what_an_earlier_driver_found() -> None:
    spec = sweep(search="tpe", trials=40, mode="min", metric="val_loss")
    proposer, points = Proposer(spec), Points(sweep(trials=40))
    for number in range(30):
        point = points.point(number)
        proposer.known(point)
        proposer.tell(point, [(point.params["optimizer.learning_rate"] - 0.7) ** 2])
    found = [point.params["optimizer.learning_rate"] for _ in range(10) if (point := proposer.propose()) is not None]
    assert len(found) == 10
    assert sum(abs(rate - 0.7) < 0.2 for rate in found) > 5


def test_tpe_draws_other_points_after_an_earlier_driver() -> None:
    spec = sweep(search="tpe", trials=12)
    first, second = Proposer(spec), Proposer(spec)
    drawn = [point for _ in range(4) if (point := first.propose()) is not None]
    for point in drawn:
        second.known(point)
        second.tell(point, [0.5])
    further = [point for _ in range(4) if (point := second.propose()) is not None]
    assert [point.number for point in further] == [4, 5, 6, 7]
    rates = [point.params["optimizer.learning_rate"] for point in (*drawn, *further)]
    assert len(set(rates)) == 8
