"""Programs of other people with indexes of ours inside, run for real."""
