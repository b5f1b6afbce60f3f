"""What keeps a cluster from starting, in one sentence for the person who asked."""


class CannotStart(Exception):
    """The cluster can't start; the message says why and what to do."""
