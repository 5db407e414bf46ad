"""What a job tells of its attempts that did not succeed: the first ones and the last, briefly.

The story of a job that never failed is the empty tuple, and costs nothing.
"""

from taskq import limits
from taskq.core.effects import Now
from taskq.protocol.messages import AttemptReport, Failure

Story = tuple[AttemptReport, ...]

# Numbers, times, ending: what a report takes in the journal beside its texts.
REPORT_OVERHEAD_BYTES = 32


def told(failure: Failure, *, attempt: int, started_ms: int, worker: str, now: Now) -> AttemptReport | None:
    """How an attempt ended; None when there is nothing to tell: it was handed back."""
    if failure.ending == "returned":
        return None
    fault = failure.fault
    error = f"{fault.type}: {fault.message}" if fault is not None else ""
    if len(error) > limits.STORY_ERROR_CHARS:
        error = error[: limits.STORY_ERROR_CHARS - 1] + "…"
    return AttemptReport(attempt, failure.ending, started_ms, now.wall_ms, worker, error, failure.status)


def longer(story: Story, report: AttemptReport | None) -> Story:
    """With one more at the end. Of many in a row that were put off, the last is told: one that waits
    for something by snoozing would have nothing else to tell."""
    if report is None:
        return story
    if story and story[-1].ending == report.ending == "snoozed":
        return (*story[:-1], report)
    if len(story) >= limits.STORY_FIRST + limits.STORY_LAST:
        story = story[: limits.STORY_FIRST] + story[limits.STORY_FIRST + 1 :]
    return (*story, report)


def story_bytes(story: Story) -> int:
    """What it takes in the journal and in memory, about."""
    return sum(len(each.worker) + len(each.error) + REPORT_OVERHEAD_BYTES for each in story)
