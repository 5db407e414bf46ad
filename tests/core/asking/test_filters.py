"""What a filter means, and which ones mean nothing."""

import time
from fnmatch import fnmatchcase
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskq.core.asking.filters import Glob, flaw_for, flaw_in
from taskq.protocol.messages import Fault, Filter, Verb
from tests.core.world import World, filter_of


@given(st.text("ab*", max_size=8), st.text("ab", max_size=10))
def test_a_star_stands_for_anything(glob: str, name: str) -> None:
    assert Glob(glob).fits(name) == fnmatchcase(name, glob)


@pytest.mark.parametrize("text", ["a.b", "a?", "[ab]", "(a+)+$", "\\"])
def test_all_other_characters_stand_for_themselves(text: str) -> None:
    assert Glob(text).fits(text)
    assert not Glob(text).fits("ab")


def test_no_glob_explodes() -> None:
    """As a pattern with backtracking, this one would take longer than the universe has."""
    began = time.process_time()
    assert not Glob("*a" * 100).fits("a" * 99 + "b" * 101)
    assert time.process_time() - began < 1


def zoo() -> World:
    """One job in each state, all but the first of task `work`."""
    world = World().worker("w").submit("ready", queue="mail", task="send_mail", ext={"key": b"ann"})
    world.submit("done").ack(by="w")
    world.submit("dead", ext={"key": b"bob"}).nack(by="w", fault=Fault("app.Gone", "no route to HOST"))
    world.submit("late", expires_ms=1, queue="nobody").tick(1)
    world.submit("gone", queue="nobody").cancel("gone")
    world.tick(60_000).worker("w").submit("soon", delay_ms=5_000).submit("run")
    return world


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ({}, "dead done gone late ready run soon"),
        ({"states": ["ready"]}, "ready"),
        ({"states": ["running", "dead"]}, "dead run"),
        ({"states": ["blocked"]}, ""),
        ({"task": "send_*"}, "ready"),
        ({"task": "*"}, "dead done gone late ready run soon"),
        ({"task": "work"}, "dead done gone late run soon"),
        ({"queue": "nobody"}, "gone late"),
        ({"key": "ann"}, "ready"),
        ({"key": "bob"}, "dead"),
        ({"older_ms": 60_000}, "dead done gone late ready"),
        ({"older_ms": 60_001}, "dead done late ready"),
        ({"younger_ms": 1_000}, "run soon"),
        ({"older_ms": 1_000, "younger_ms": 60_000}, "gone"),
        ({"error": "gone"}, "dead"),
        ({"error": "no route to host"}, "dead"),
        ({"error": "route from"}, ""),
        ({"error_type": "app.Gone"}, "dead"),
        ({"error_type": "Gone"}, ""),
        ({"ids": ["run", "never was", "done", "run"]}, "done run"),
        ({"ids": ["run", "done"], "states": ["running"]}, "run"),
        ({"queue": "default", "states": ["scheduled", "succeeded"]}, "done soon"),
    ],
    ids=str,
)
def test_all_that_is_said_must_apply(wanted: dict[str, Any], names: str) -> None:
    world = zoo()
    assert world.listed(**wanted) == names.split()
    assert world.tally(**wanted)["all"] == len(names.split())


def test_a_job_that_died_without_an_error_is_known_by_its_ending() -> None:
    world = World().submit("a").deliver(to="w").nack(by="w", ending="discarded")
    assert world.listed(error_type="discarded") == ["a"]
    assert world.listed(error="discarded") == []


def test_a_job_that_is_tried_again_is_found_by_its_last_error() -> None:
    world = World().submit("a", attempts=3).deliver(to="w").nack(by="w", fault=Fault("app.Gone", "no route"))
    assert world.listed(error="ROUTE") == world.listed(error_type="app.Gone", states=["scheduled"]) == ["a"]
    assert [line.fault for line in world.page().items] == [Fault("app.Gone", "no route")]
    assert world.listed(error="other") == []


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (Filter(older_ms=2_000, younger_ms=1_000), "older than 2 s and younger than 1 s"),
        (Filter(states=["succeeded", "expired"], error="x"), "succeeded or expired have no error"),
        (Filter(states=["cancelled"], error_type="x"), "cancelled have no error"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_means_nothing_is_refused_with_what_would(wanted: Filter, said: str) -> None:
    assert said in flaw_in(wanted)


@pytest.mark.parametrize(
    ("verb", "wanted", "said"),
    [
        ("cancel", Filter(), "`task:*` means all"),
        ("cancel", Filter(states=["ready", "dead"]), "scheduled, blocked, ready or running, not dead"),
        ("retry", Filter(states=["cancelled"]), "jobs that are dead, not cancelled"),
        ("discard", Filter(states=["succeeded"]), "jobs that are dead, not succeeded"),
        ("delete", Filter(states=["running"]), "succeeded, cancelled, expired or dead, not running"),
        ("delete", Filter(older_ms=2, younger_ms=1), "older than"),
    ],
)
def test_a_verb_is_for_some_states_only(verb: Verb, wanted: Filter, said: str) -> None:
    assert said in flaw_for(verb, wanted)


def test_what_means_something_has_no_flaw() -> None:
    assert flaw_in(Filter()) == flaw_in(Filter(older_ms=1, younger_ms=2, error="x")) == ""
    assert flaw_for("cancel", filter_of(ids=["a"])) == flaw_for("retry", Filter(task="*")) == ""
