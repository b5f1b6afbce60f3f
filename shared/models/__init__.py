"""Models that several methods share, loaded from folders and kept in the process."""
