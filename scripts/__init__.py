"""What a user runs. README.md in this folder says what each part is for."""
