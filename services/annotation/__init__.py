"""The annotation service: people correct recommended relations, and every edit is counted.

A process of its own over the artifact store, with the gateway's tokens, scopes and problems.
"""
