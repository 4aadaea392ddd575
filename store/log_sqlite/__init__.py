"""The log in one SQLite file: `log` is the front, `worker` its threads; each other room has one subject."""
