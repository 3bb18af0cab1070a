"""One module per dataset format, each a reader into the internal type."""
