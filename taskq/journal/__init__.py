"""Memory that outlives the process: batches of bytes, in order. It has no opinions about what they mean."""
