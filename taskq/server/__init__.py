"""The daemon: drain, decide, commit, speak. Waiting lives here; no policy does."""
