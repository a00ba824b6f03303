"""Results and records as tables and pages; nothing is computed here that an evaluation did not record."""
