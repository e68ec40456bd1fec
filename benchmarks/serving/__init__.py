"""The proof of elastic serving: traffic, models, peers, and what is measured of them over HTTP."""
