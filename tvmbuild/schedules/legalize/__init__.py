"""Which computes stand for a Relax operator, with weights packed at build time."""
