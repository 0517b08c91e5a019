"""Drills: what Atria promises, shown on a running cluster."""
