"""Small changes of the code (mutants), and how many of them the unit tests notice (``make mutants``)."""
