"""Passes: a graph in, an equivalent graph out; `pipeline.py` lists them."""
