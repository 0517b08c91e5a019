"""One site's objects."""
