"""What runs attempts: on the event loop or in threads, each for as long as it may."""
