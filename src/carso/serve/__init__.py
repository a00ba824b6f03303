"""The service: images over HTTP, answered in batches by a defence in torch or by its ONNX file."""
