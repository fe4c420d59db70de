"""Coverage-guided fuzzing of the decoder and the request parser."""
