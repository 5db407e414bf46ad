"""What people ask and do to many jobs at once: watching, listing, counting, reporting."""
