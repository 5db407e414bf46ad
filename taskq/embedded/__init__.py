"""Broker and worker inside one process: the only room above both."""
