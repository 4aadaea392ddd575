"""The fault matrix: one thing goes wrong at a time, under load, and one checker says what came of it."""
