"""What a job tells while it runs, and who listens: streams, events, log lines. In memory only."""
