from itertools import pairwise

import pytest

from bestiary.core.tuning.order import Batches, Draw, Order, Place, Through
from bestiary.core.tuning.recipe import Recipe
from bestiary.errors import InputError


def draws(order: Order) -> list[Draw]:
    return list(order)


def test_each_epoch_has_all_rows_in_an_order_of_its_own():
    order = Order(12, batch_size=4, epochs=3)
    rows = [row for draw in draws(order) for row in draw.rows]
    epochs = [rows[begin : begin + 12] for begin in (0, 12, 24)]
    assert all(sorted(epoch) == list(range(12)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert rows != [row for draw in draws(Order(12, batch_size=4, epochs=3, seed=1)) for row in draw.rows]


def test_what_is_left_of_an_epoch_is_filled_up_from_the_next():
    order = Order(5, batch_size=2, epochs=2)
    assert len(order) == order.steps == 6 and order.steps_of_epoch == 3
    rows = [row for draw in draws(order) for row in draw.rows]
    assert sorted(rows[:5]) == sorted(rows[5:10]) == list(range(5))


def test_a_run_that_begins_later_takes_what_is_left():
    order, later = Order(10, batch_size=3, epochs=2, accumulate=2), Order(10, batch_size=3, epochs=2, accumulate=2)
    later.start = 3
    assert draws(later) == draws(order)[3:]


def test_processes_and_accumulated_batches_take_together_what_one_takes_alone():
    alone = [draw.rows for draw in Order(20, batch_size=4, epochs=1)]
    halves = [draws(Order(20, batch_size=2, epochs=1, place=Place(rank, 2))) for rank in (0, 1)]
    assert [first.rows + second.rows for first, second in zip(*halves, strict=True)] == alone
    parts = draws(Order(20, batch_size=2, epochs=1, accumulate=2))
    assert [first.rows + second.rows for first, second in zip(parts[::2], parts[1::2], strict=True)] == alone
    seeds = [seed for draw in Order(20, batch_size=4, epochs=1) for seed in draw.seeds]
    assert [seed for draw in parts for seed in draw.seeds] == seeds and len(set(seeds)) == 20


def test_shares_make_of_the_means_of_batches_the_mean_of_their_step():
    weights = [1.0, 5.0, 2.0, 7.0, 3.0, 4.0, 1.0, 2.0]
    values = [0.3, 0.1, 0.9, 0.4, 0.7, 0.2, 0.8, 0.5]
    place = [Place(rank, 2) for rank in (0, 1)]
    found = [draws(Order(8, batch_size=2, epochs=1, accumulate=2, weights=weights, place=one)) for one in place]

    def mean(rows):
        return sum(weights[row] * values[row] for row in rows) / sum(weights[row] for row in rows)

    batches = [*found[0], *found[1]]
    assert sum(draw.share * mean(draw.rows) for draw in batches) / 4 == pytest.approx(mean(range(8)))


def test_repeated_rows_are_neighbours():
    rows = [row for draw in Order(9, batch_size=3, epochs=1, repeats=3) for row in draw.rows]
    assert len(set(rows)) == 3 and sum(one == other for one, other in pairwise(rows)) == 6


def test_validation_sees_every_row_once():
    found = [row for rank in (0, 1) for draw in Through(7, 2, Place(rank, 2)) for row in draw.rows]
    assert sorted(found) == list(range(7))


def test_an_error_of_a_row_is_handed_on():
    def refuse(rows, seeds):
        raise InputError("photo.jpg cannot be read\nremove it")

    batch = Batches(["photo.jpg"], refuse)[Draw((0,), (0,), 0)]
    assert isinstance(batch.inputs, InputError) and str(batch.inputs).startswith("photo.jpg")


@pytest.mark.parametrize(
    ("wrong", "wanted"),
    [
        ({"epochs": 0}, "1 or more"),
        ({"lr": 0.0}, "more than 0"),
        ({"ema": 1.0}, "0 to less than 1"),
        ({"decay": 1.5}, "more than 0, at most 1"),
        ({"patience": -1}, "0 or more"),
    ],
)
def test_a_recipe_that_makes_no_sense(wrong, wanted):
    with pytest.raises(InputError, match=f"makes no sense\ngive {wanted}"):
        Recipe(**wrong)
