"""The worker: holds leases, runs attempts, reports how they ended; and the supervisor that vouches for it."""
