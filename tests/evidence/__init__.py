"""What clients saw, what is stored, and whether the two agree."""
