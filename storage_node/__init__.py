"""One protocol-handler process, stateless, and the thin layer it writes through."""
