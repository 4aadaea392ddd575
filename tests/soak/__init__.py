"""Real clients on a real gateway that is killed again and again."""
