"""Comparisons of a prediction with what was hidden; each names the p(y|x) it is -log of."""
