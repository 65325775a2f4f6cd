"""Matrix products: weight packing, one file a kernel, and the epilogue they share."""
