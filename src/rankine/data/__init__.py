"""Stage 1: data sets as column batches: MovieLens, synthetic, Parquet and CSV through the schema."""
