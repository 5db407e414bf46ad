"""A line is a list from which members leave, and never keeps many empty places."""

from hypothesis import given, settings
from hypothesis import strategies as st

from taskq.core.line import EMPTY_MIN, Line


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["append", "leave", "take", "head"]), st.integers(0, 400))))
def test_it_is_a_list_without_those_that_left(steps: list[tuple[str, int]]) -> None:
    model: dict[int, None] = {}
    line = Line[int](model.__contains__)
    for number, (verb, pick) in enumerate(steps):
        if verb == "append" or not model:
            model[number] = None
            line.append(number)
        elif verb == "leave":
            del model[list(model)[pick % len(model)]]
            line.left(1)
        else:
            head = line.head()
            assert head == next(iter(model))
            if verb == "take":
                assert line.popleft() == head
                del model[head]
    assert line.head() == next(iter(model), None)


def test_empty_places_do_not_pile_up_however_they_leave() -> None:
    for step in (1, -1, 7):
        model = dict.fromkeys(range(10_000))
        line = Line[int](model.__contains__)
        for number in model:
            line.append(number)
        for number in [(place * step) % 10_000 for place in range(9_900)]:
            del model[number]
            line.left(1)
        assert len(line) <= 4 * len(model) + EMPTY_MIN
        assert line.head() == next(iter(model))
