"""The programs behind the Make targets. README.md in this folder says what each one is for."""
