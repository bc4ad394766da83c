"""From kernels to libraries: machine code, weights as data, linking, and what a board's loader asks of the result."""
