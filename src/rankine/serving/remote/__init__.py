"""Other servers as devices of a pool: batches run there over the Open Inference Protocol, ``name.batch``."""
