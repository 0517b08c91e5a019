"""How processes find each other: what only the folder does."""
