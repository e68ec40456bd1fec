"""A dense graph in PyTorch: whatever a model was written in, its exported graph can be trained further."""

from rankine.models.torch_graph.graph_model import GraphModel, Tap, untrainable

__all__ = ["GraphModel", "Tap", "untrainable"]
