"""Processes that work as one: `torchrun` starts them, each does its part, and the first alone writes and speaks."""
