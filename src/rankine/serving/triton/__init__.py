"""Triton Inference Server runs our engines: a model repository, and the python backend's model in it."""
