"""The planner: from a graph to steps over buffers."""
