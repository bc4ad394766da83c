"""What CI publishes: bundles, checksums, signatures, bills of materials and notes."""
