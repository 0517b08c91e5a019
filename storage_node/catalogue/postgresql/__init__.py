"""A catalogue in a PostgreSQL database: for many hosts, and for millions of studies."""
