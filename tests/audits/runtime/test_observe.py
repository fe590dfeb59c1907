"""The observer sees real calls however they are reached, and leaves nothing behind."""

from __future__ import annotations

import functools
import sys
import threading

import pytest

from audits.runtime.observe import Observer


def add(a, b=2):
    return a + b


@functools.wraps(add)
def wrapped(*args, **kwargs):
    return add(*args, **kwargs)


TABLE = {"plus": add}


def other(a, b=2):
    return a - b


def test_calls_by_another_name_from_a_table_or_a_thread_are_seen():
    alias = add
    with Observer({"add": wrapped}) as observer:
        alias(1)
        TABLE["plus"](1, b=5)
        wrapped(7)
        worker = threading.Thread(target=add, args=(3,))
        worker.start()
        worker.join()
        other(1)
    assert [(call.arguments, call.result) for call in observer.of("add")] == [
        ({"a": 1, "b": 2}, 3), ({"a": 1, "b": 5}, 6), ({"a": 7, "b": 2}, 9), ({"a": 3, "b": 2}, 5),
    ]  # fmt: skip


def test_the_profile_function_is_put_back_after_an_error():
    before = sys.getprofile()
    with pytest.raises(TypeError), Observer({"add": add}) as observer:
        add("a", 1)
    assert sys.getprofile() is before
    assert observer.of("add")[0].result is None


def test_a_call_can_be_prepared_before_it_runs():
    seen = []
    with Observer({"add": add}, on_call=lambda call: seen.append(call.arguments["a"])):
        add(4)
    assert seen == [4]
