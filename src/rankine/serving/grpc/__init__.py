"""The server over gRPC: the Open Inference Protocol, ranking, health and reflection, beside HTTP in one event loop.

Needs the extra ``grpc``; nothing of it is imported unless a port for it is asked for.
"""
