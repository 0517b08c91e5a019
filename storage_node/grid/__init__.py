"""The thin layer: write to W of N sites, read from any, owe, repair."""
