"""A development server on Flask: the same contract as on TorchServe, and a page for trying pictures."""
