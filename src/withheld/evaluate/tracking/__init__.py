"""Following what is marked in the first frame of a clip."""
