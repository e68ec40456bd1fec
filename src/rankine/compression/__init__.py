"""Stage 2: smaller and INT8 variants of the baseline, by a recipe of passes."""
