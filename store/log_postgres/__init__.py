"""The log in Postgres: `log` is the front, `database` the rules of every call; the rest have one subject."""
