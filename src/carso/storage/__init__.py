"""What is on disk: weights, tensors, files, the ONNX export; and functions of the user's, called by name."""
