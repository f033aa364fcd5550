"""Nets as graphs of operations that other runtimes compute: ONNX, and torch.export's own programs."""
