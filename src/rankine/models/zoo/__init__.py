"""Reference models, one file each."""
