"""Passes: each takes a graph and returns an equivalent one; `pipeline.py` lists them."""
