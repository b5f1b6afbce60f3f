"""Every metric as a pure function on plain arrays, with its formula and source."""
