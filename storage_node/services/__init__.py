"""A file for each service class."""
