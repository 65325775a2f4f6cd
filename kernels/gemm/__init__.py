"""Matrix products: a row each in `specs.py`, weight packing, and the epilogue that they share."""
