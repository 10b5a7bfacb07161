"""From whatever the user has to fixed-size arrays: sources, decoding, the prepared cache, labels."""
