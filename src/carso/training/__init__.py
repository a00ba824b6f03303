"""Training: stage 1 makes the classifier robust, stage 2 teaches the purifier to recall."""
