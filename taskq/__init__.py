"""taskq: a distributed task queue for asyncio that brings its own broker.

from taskq import TaskQ

q = TaskQ()

@q.task
async def add(a: int, b: int) -> int:
    return a + b

job = await add.submit(2, 3)
assert await job.result() == 5
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from taskq.errors import (
    Busy,
    ConfigError,
    ConfirmTimeout,
    Conflict,
    ConnectionLost,
    DecodeError,
    Discard,
    EncodeError,
    JobCancelled,
    JobCrashed,
    JobError,
    JobExpired,
    JobFailed,
    JobTimedOut,
    NotFound,
    QueueFull,
    Refused,
    ResultGone,
    Retry,
    Snooze,
    SubmitErrors,
    TaskqError,
    Throttle,
    TooLarge,
    Unauthorized,
    VersionMismatch,
)

if TYPE_CHECKING:
    from taskq.client.app import TaskQ
    from taskq.client.bounds import Concurrency, Rate
    from taskq.client.context import Context, current
    from taskq.client.depends import Depends
    from taskq.client.following import Missed, Restarted
    from taskq.client.job import AttemptInfo, Job, JobInfo, Progress
    from taskq.client.job_filter import JobFilter
    from taskq.client.jobs import BulkResult, DeadGroup
    from taskq.client.middleware import Middleware, Outgoing
    from taskq.client.retry import RetryPolicy
    from taskq.client.schedules import ScheduleInfo
    from taskq.client.sync import SyncJob
    from taskq.client.task import Call, StreamTask, Task
    from taskq.client.telling import Event, LogLine, StreamJob
    from taskq.client.values.secrets import Secret
    from taskq.client.values.serializers import Serializer
    from taskq.client.workers import WorkerInfo

__version__ = "0.1.0"

__all__ = [
    "AttemptInfo",
    "BulkResult",
    "Busy",
    "Call",
    "Concurrency",
    "ConfigError",
    "ConfirmTimeout",
    "Conflict",
    "ConnectionLost",
    "Context",
    "DeadGroup",
    "DecodeError",
    "Depends",
    "Discard",
    "EncodeError",
    "Event",
    "Job",
    "JobCancelled",
    "JobCrashed",
    "JobError",
    "JobExpired",
    "JobFailed",
    "JobFilter",
    "JobInfo",
    "JobTimedOut",
    "LogLine",
    "Middleware",
    "Missed",
    "NotFound",
    "Outgoing",
    "Progress",
    "QueueFull",
    "Rate",
    "Refused",
    "Restarted",
    "ResultGone",
    "Retry",
    "RetryPolicy",
    "ScheduleInfo",
    "Secret",
    "Serializer",
    "Snooze",
    "StreamJob",
    "StreamTask",
    "SubmitErrors",
    "SyncJob",
    "Task",
    "TaskQ",
    "TaskqError",
    "Throttle",
    "TooLarge",
    "Unauthorized",
    "VersionMismatch",
    "WorkerInfo",
    "__version__",
    "current",
]

# Where the names live that bring asyncio and the codecs with them. They are imported when they are
# first asked for, so that `taskq --help` and whoever wants only the errors do not pay for them.
_LAZY = {
    "Restarted": "taskq.client.following",
    "Missed": "taskq.client.following",
    "StreamJob": "taskq.client.telling",
    "LogLine": "taskq.client.telling",
    "Event": "taskq.client.telling",
    "TaskQ": "taskq.client.app",
    "Concurrency": "taskq.client.bounds",
    "Rate": "taskq.client.bounds",
    "Context": "taskq.client.context",
    "current": "taskq.client.context",
    "Depends": "taskq.client.depends",
    "AttemptInfo": "taskq.client.job",
    "Job": "taskq.client.job",
    "JobInfo": "taskq.client.job",
    "JobFilter": "taskq.client.job_filter",
    "Progress": "taskq.client.job",
    "BulkResult": "taskq.client.jobs",
    "DeadGroup": "taskq.client.jobs",
    "Middleware": "taskq.client.middleware",
    "Outgoing": "taskq.client.middleware",
    "RetryPolicy": "taskq.client.retry",
    "ScheduleInfo": "taskq.client.schedules",
    "SyncJob": "taskq.client.sync",
    "Call": "taskq.client.task",
    "StreamTask": "taskq.client.task",
    "Task": "taskq.client.task",
    "Secret": "taskq.client.values.secrets",
    "Serializer": "taskq.client.values.serializers",
    "WorkerInfo": "taskq.client.workers",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
