"""What the programs share: processes that always end, what the system says of them, statistics, one table."""
