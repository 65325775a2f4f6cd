"""Running a plan's steps on several threads, and the state those threads share."""
