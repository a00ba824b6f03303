"""The verbs of the command line, a file each: thin calls into the library, which is imported only when a verb runs."""
