"""What gateway, workers and clients share: the job contract, settings, artifacts, metrics, data formats."""
