"""Batches survive the journal, and what is no batch is named."""

import pytest

from taskq.core import records as r
from taskq.errors import JournalCorrupt
from taskq.protocol.messages import Fault, Held, JobSpec
from tests.core.world import id_of, job_terms

A = id_of("a")
ALL: list[r.AnyRecord] = [
    r.Submitted(A, 3, 1, 1000, [job_terms()], [JobSpec(A, 0, b"payload", 1, {"x": b"y"})], [0, 2]),
    r.Delivered(A, 1000, [Held(A, 2**63 - 1)]),
    r.Released(1000, [r.Release(A, 7, "failed", 2000, 1, 0, True)]),
    r.Ended([job_terms()], [r.EndedItem(A, 7, 0, "dead", "failed", 1, 0, 1, 2, 3, 4, Fault("E", "m", "t"))]),
    r.Forgotten([A], [A]),
    r.Restated([job_terms()], [r.FullJob(A, 0, b"", 0, None, "ready", 1, 2, 3, 4, 5, [6], b"", 7)]),
    r.SessionRestated(A, 3, 1, 1000, [0, 2]),
]


def test_a_batch_is_read_as_it_was_written() -> None:
    assert r.decode(1, r.encode(ALL)) == ALL


def test_a_batch_that_was_cut_is_corrupt_wherever_it_was_cut() -> None:
    blob = r.encode(ALL)
    for end in range(len(blob)):
        with pytest.raises(JournalCorrupt, match="batch 42"):
            r.decode(42, blob[:end])


@pytest.mark.parametrize("blob", [b"", b"\xc0", b"\x91\x91\x63", b"\x90tail"])
def test_anything_else_is_corrupt(blob: bytes) -> None:
    with pytest.raises(JournalCorrupt):
        r.decode(1, blob)


def test_shared_terms_stand_in_a_record_once() -> None:
    index, one, other = r.TermsIndex(), job_terms("one"), job_terms("other")
    assert [index.index(terms) for terms in (one, one, other, one, other)] == [0, 0, 1, 0, 1]
    assert index.terms == [one, other]
