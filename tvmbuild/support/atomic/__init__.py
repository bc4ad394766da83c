"""Files are written whole or not at all: locked folders aside, and moves of a set of files as one step."""
