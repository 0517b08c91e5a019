"""One site's index."""
