"""From samples to the range of every activation."""
