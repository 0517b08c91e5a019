"""A catalogue in an SQLite file: for one host, and for sites that are its disks."""
