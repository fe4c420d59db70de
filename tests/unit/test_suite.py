"""The tests themselves."""

from tests.unit.test_makefile import ROOT

FEWEST = 100  # modules


def test_no_module_of_tests_is_without_a_test() -> None:
    """One was emptied by accident once, and nobody noticed."""
    modules = sorted((ROOT / "tests").rglob("test_*.py"))
    assert len(modules) > FEWEST
    assert [str(path) for path in modules if "\ndef test_" not in path.read_text()] == []
