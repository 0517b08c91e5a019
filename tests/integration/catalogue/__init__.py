"""Catalogues on real database servers."""
