"""HTTP, as the demo and the service share it: patience, bodies within bounds, refusals in one line, guarded origins."""
