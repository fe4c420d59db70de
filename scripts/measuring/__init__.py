"""How right a model is, and how alike its archives are."""
