import pytest

from latenteditor.editing.edit_schedule import EditSchedule, EditScheduleConfig


def dealt(schedule: EditSchedule, steps: range) -> list[int]:
    return [view for step in steps for view in schedule.views_due(step)]


def test_views_are_due_every_so_many_steps_from_the_first():
    schedule = EditSchedule(EditScheduleConfig(steps_per_edit=10), num_views=5, first_step=20)
    assert [step for step in range(60) if schedule.views_due(step)] == [20, 30, 40, 50]


@pytest.mark.parametrize("views_per_edit", [1, 3, 7, 50])
def test_every_view_comes_once_before_any_comes_again(views_per_edit):
    schedule = EditSchedule(EditScheduleConfig(1, views_per_edit), num_views=7)
    order = dealt(schedule, range(30))
    assert len(order) >= 21
    for start in (0, 7, 14):
        assert sorted(order[start : start + 7]) == list(range(7))


def test_no_batch_holds_a_view_twice():
    schedule = EditSchedule(EditScheduleConfig(1, views_per_edit=3), num_views=4)
    batches = [schedule.views_due(step) for step in range(20)]
    assert all(len(set(batch)) == len(batch) > 0 for batch in batches)


def test_rounds_differ_and_seeds_differ():
    schedule = EditSchedule(EditScheduleConfig(), num_views=20)
    assert schedule.order(0) != schedule.order(1)
    assert schedule.order(0) != EditSchedule(EditScheduleConfig(seed=5), num_views=20).order(0)


def test_nothing_is_due_and_nothing_dealt_between_edits():
    schedule = EditSchedule(EditScheduleConfig(), num_views=3)
    assert dealt(schedule, range(1, 10)) == []
    assert schedule.views_dealt == 0


def test_a_resumed_schedule_continues_the_order():
    config = EditScheduleConfig(steps_per_edit=2, views_per_edit=2)
    whole, first, second = (EditSchedule(config, num_views=5) for _ in range(3))
    expected = dealt(whole, range(40))
    beginning = dealt(first, range(17))
    second.load_state_dict(first.state_dict())
    assert beginning + dealt(second, range(17, 40)) == expected


def test_reset_starts_the_order_again():
    schedule = EditSchedule(EditScheduleConfig(1), num_views=5)
    before = dealt(schedule, range(3))
    schedule.reset()
    assert dealt(schedule, range(3)) == before


def test_impossible_rates_and_empty_scenes_are_refused():
    with pytest.raises(ValueError, match="not 0 steps and 1 views"):
        EditScheduleConfig(steps_per_edit=0)
    with pytest.raises(ValueError, match="not 10 steps and 0 views"):
        EditScheduleConfig(views_per_edit=0)
    with pytest.raises(ValueError, match="no view to edit"):
        EditSchedule(EditScheduleConfig(), num_views=0)
