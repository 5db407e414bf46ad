"""For users' own tests: real brokers and workers that start on free ports and are gone afterwards."""
