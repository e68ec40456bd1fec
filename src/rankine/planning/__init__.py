"""Stage 6: profiles, search, capacity, simulation."""
