"""General matrix products (GEMM) in register tiles: convolutions by their definition, matrix products."""
