"""The page for people at `/` of the HTTP server: `files` has what browsers get, `routes` serves it."""
