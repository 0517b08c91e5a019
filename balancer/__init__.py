"""The front door: reads who is calling whom, picks a worker, relays bytes."""
