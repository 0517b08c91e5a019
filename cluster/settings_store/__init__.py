"""Where the shared settings are kept, and how processes follow them."""
