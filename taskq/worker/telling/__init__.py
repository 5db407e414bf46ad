"""What running attempts tell on their way: what they yield, how far they are, what they log."""
