"""The atria command, a file for each of its commands."""
