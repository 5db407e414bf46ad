"""What comes in: which jobs are new, alone, too many, changed, or bound to who submitted them."""
