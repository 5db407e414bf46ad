"""From ready to ended: leases, failures, endings, and who is alive to run anything."""
