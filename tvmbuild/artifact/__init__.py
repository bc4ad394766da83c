"""The deployable file set: what an artifact says of itself, and how it is written."""
