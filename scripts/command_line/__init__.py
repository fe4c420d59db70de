"""The program `image-classifier`: its verbs are the Make targets, its options their variables."""
