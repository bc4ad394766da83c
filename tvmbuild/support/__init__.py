"""The ground that all other packages stand on: errors, options, progress, caches. It imports nothing above it."""
