"""The queue: every batch once, a cell finished after its last batch, whatever order workers answer in."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from eval.running.tasks import LOSSES, Finish, Make, Task, Tasks


def test_a_cell_is_finished_before_the_next_ones_batches_go_on() -> None:
    tasks = Tasks({0: [(0, 2), (2, 4)], 1: [(0, 2)], 2: []})
    first, second = tasks.next(), tasks.next()
    assert (first, second) == (Make(0, 0, 2), Make(0, 2, 4))
    assert first is not None
    assert second is not None
    tasks.done(second)
    tasks.done(first)
    assert [tasks.next() for _ in range(4)] == [Finish(0), Make(1, 0, 2), Finish(2), None]
    assert not tasks.empty


def test_a_cell_that_is_given_up_hands_out_nothing_more() -> None:
    tasks = Tasks({0: [(0, 2), (2, 4)], 1: [(0, 2)]})
    at_work = tasks.next()
    assert at_work is not None
    tasks.give_up(0)
    tasks.done(at_work)
    assert tasks.next() == Make(1, 0, 2)


def test_a_lost_task_goes_to_the_next_worker_until_it_has_cost_too_many() -> None:
    tasks = Tasks({0: [(0, 2)]})
    for loss in range(1, LOSSES + 1):
        task = tasks.next()
        assert task == Make(0, 0, 2)
        assert tasks.lost(task) is (loss < LOSSES)
    assert tasks.next() is None


@settings(max_examples=60, deadline=None)
@given(
    batches=st.lists(st.integers(0, 4), min_size=1, max_size=5),
    workers=st.integers(1, 4),
    data=st.data(),
)
def test_every_task_is_done_once_in_whatever_order_workers_answer(
    batches: list[int], workers: int, data: st.DataObject
) -> None:
    tasks = Tasks({cell: [(i, i + 1) for i in range(count)] for cell, count in enumerate(batches)})
    at_work: list[Task] = []
    done: list[Task] = []
    while not tasks.empty:
        while len(at_work) < workers and (task := tasks.next()) is not None:
            at_work.append(task)
        task = at_work.pop(data.draw(st.integers(0, len(at_work) - 1)))
        if data.draw(st.integers(0, 9)) == 0 and tasks.lost(task):
            continue
        done.append(task)
        tasks.done(task)
    expected = [Make(cell, i, i + 1) for cell, count in enumerate(batches) for i in range(count)]
    expected += [Finish(cell) for cell in range(len(batches))]
    assert sorted(map(str, done)) == sorted(map(str, expected))
    for cell in range(len(batches)):
        mine = [task for task in done if task.cell == cell]
        assert mine[-1] == Finish(cell)
