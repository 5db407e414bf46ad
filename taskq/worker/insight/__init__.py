"""What a worker is doing, seen from outside of its event loop."""
