"""The engines that are compared: a file each, and the case that all are given."""
