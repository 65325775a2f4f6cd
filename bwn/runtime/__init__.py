"""Running a plan: its steps, and the threads that share them."""
