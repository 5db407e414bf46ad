"""Schedules: jobs that the broker makes by the clock."""
