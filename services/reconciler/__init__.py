"""The loop that returns orphaned jobs to their queue and clears what nobody needs. Any number may run."""
