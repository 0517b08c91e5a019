"""What each host of a cluster is installed with, worked out from the one file that describes the cluster."""
