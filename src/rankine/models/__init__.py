"""Stage 1: what a model reads (schema, transforms), reference models, and their export to ONNX."""
