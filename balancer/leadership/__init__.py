"""Which balancer holds the service address."""
