"""Every decision of the broker, as a function of events and time. Pure: no waiting, no clock, no disk."""
