"""The same model in other languages and on other machines."""
