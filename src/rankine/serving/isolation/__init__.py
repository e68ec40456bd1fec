"""Engine calls in processes of their own: an engine that crashes or hangs takes one batch with it, not the server."""
