"""taskq: a distributed task queue for asyncio that brings its own broker.

from taskq import TaskQ

q = TaskQ()

@q.task
async def add(a: int, b: int) -> int:
    return a + b

job = await add.submit(2, 3)
assert await job.result() == 5
"""

from taskq.client.app import TaskQ
from taskq.client.context import Context, current
from taskq.client.job import Job, JobInfo, Progress
from taskq.client.retry import RetryPolicy
from taskq.client.sync import SyncJob
from taskq.client.task import Call, Task
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
    TooLarge,
    Unauthorized,
    VersionMismatch,
)

__version__ = "0.1.0"

__all__ = [
    "Busy",
    "Call",
    "ConfigError",
    "ConfirmTimeout",
    "Conflict",
    "ConnectionLost",
    "Context",
    "DecodeError",
    "Discard",
    "EncodeError",
    "Job",
    "JobCancelled",
    "JobCrashed",
    "JobError",
    "JobExpired",
    "JobFailed",
    "JobInfo",
    "JobTimedOut",
    "NotFound",
    "Progress",
    "QueueFull",
    "Refused",
    "ResultGone",
    "Retry",
    "RetryPolicy",
    "Snooze",
    "SubmitErrors",
    "SyncJob",
    "Task",
    "TaskQ",
    "TaskqError",
    "TooLarge",
    "Unauthorized",
    "VersionMismatch",
    "__version__",
    "current",
]
