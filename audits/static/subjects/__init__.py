"""What several rules know of one subject."""
