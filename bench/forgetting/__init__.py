"""The forgetting benchmark: every remedy at equal target score, with intervals."""
