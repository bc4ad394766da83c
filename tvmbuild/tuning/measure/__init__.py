"""Ways to measure a candidate: on this machine, on boards, or predicted."""
