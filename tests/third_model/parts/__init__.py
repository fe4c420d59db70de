"""What architectures are made of: a package beside them, which their archives take along."""
