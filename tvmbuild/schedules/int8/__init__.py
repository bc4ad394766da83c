"""Integer products on a core's own multiply instructions."""
