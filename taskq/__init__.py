"""taskq: a task queue for asyncio that brings its own broker."""

__version__ = "0.1.0"
