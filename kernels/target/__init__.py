"""What code is compiled for, how it is compiled or loaded, and where it is cached."""
