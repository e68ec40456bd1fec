"""One file an engine; each is imported when asked for."""
