"""The log in one SQLite file: `log` is the front, `worker` its threads, the other rooms are the SQL of one subject each."""
