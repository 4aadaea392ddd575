"""HTTP: the REST routes and the pages."""
