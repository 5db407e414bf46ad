"""The `taskq` command: one small file per verb; what is heavy is imported inside the verb."""
