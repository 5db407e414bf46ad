"""Who is next: gates, lanes, queues, workers, and what people decide about them."""
