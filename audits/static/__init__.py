"""The static auditor: a whole-program analysis of any Python package that never imports the code it reads."""
