"""How processes are put together and used."""
