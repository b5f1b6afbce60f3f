"""The processes people and machines talk to: gateway, client, command line, reconciler, embedded cluster."""
