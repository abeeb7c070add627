"""Which objects there are: stubs, namespaces, and the runtime that holds them together."""
