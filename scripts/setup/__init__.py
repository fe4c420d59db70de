"""What the set-up targets of make run."""
