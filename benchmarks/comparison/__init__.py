"""The comparison of engines: measuring it, its results file, and what is rendered from that."""
