"""The thin HTTP gateway: authenticate, validate, submit, report. No torch, no ray, no method code."""
