"""taskq in other people's frameworks. Each file stands alone and can be deleted."""
