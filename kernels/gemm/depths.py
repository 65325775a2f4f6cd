"""The largest K, the products of a sum, up to which sums are exact.

Kernels state theirs in `specs.py`; what a network may hold is checked against the same numbers, so
nothing here asks for the CPU or needs a compiler.
"""

from __future__ import annotations

ANY = 2**31
"""Float sums round at any depth."""
I8_DEPTH = 2**24
"""127 * K fits an int32."""
S1_DEPTH = 2**15 - 1
"""K fits an int16."""
I16_DEPTH = 258
"""127 * K fits an int16."""
DOTS_DEPTH = 2**17
"""127 * 2**7 * K fits an int32."""
XNOR_DEPTH = 2**24 - 1
"""Every sum of K signs is a float32."""
INT8_MAX_DEPTH = 2**15
"""Of int8 weights: 127**2 * K fits an int32, also of inputs plus 128."""
UINT8_MAX_DEPTH = 2**17
"""Of uint8 activations: a sum and its zero-point correction, each within 127 * K, are float32."""
