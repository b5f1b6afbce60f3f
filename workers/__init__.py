"""The processes that run methods: the Celery worker, its runtime, and one folder per method."""
