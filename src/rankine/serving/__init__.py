"""Stage 7: the server, its protocols, workers and client."""
