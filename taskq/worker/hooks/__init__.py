"""What stands around a task: lifespan, dependencies, middleware."""
