"""Programs of TensorIR with schedules of our own: what the engine ``tvm`` compiles and runs.

A graph is lowered and fused as for the native engine (:mod:`rankine.compilation.fused`); every step becomes TensorIR,
scheduled for one instruction set. See ``docs/explanation/tvm-engine.md``.
"""
