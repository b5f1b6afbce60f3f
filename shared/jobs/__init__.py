"""The contract of a job: what a kind takes and gives, the states it passes through, and where it is recorded.

Importing this package costs milliseconds: no torch, no ray, no Celery.
"""
