"""Kernels that are not products: elementwise, pooling, copies, bitpacked tensors."""
