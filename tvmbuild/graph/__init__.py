"""Graph passes on Relax, one a file; ``pipeline.py`` lists them in order."""
