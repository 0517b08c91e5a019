"""The balancer between real sockets."""
