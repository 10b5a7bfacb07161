"""How the items of a modality reach a model, and what is kept of it: one file a modality, its name that of the modality."""
