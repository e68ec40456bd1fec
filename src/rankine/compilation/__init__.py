"""Stage 3: graphs, engines, lookups and their verification against the reference."""
