"""A development server on Flask: the same contract as TorchServe, and a page to try pictures on."""
