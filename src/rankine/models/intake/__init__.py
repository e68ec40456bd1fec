"""Intake: an ``nn.Module``, a ``.pt2`` file or an ONNX file that nobody here wrote, as one graph that takes ids."""
