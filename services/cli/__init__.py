"""The `tenfold` command: every verb of the HTTP API, through `services.client` alone."""
