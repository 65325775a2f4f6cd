"""The intermediate representation: nodes, graphs, shapes, checks, the reference interpreter."""
