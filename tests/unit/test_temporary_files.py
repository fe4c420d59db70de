import os

import pytest

from tests.conftest import TEMPORARY


def test_each_run_has_temporary_files_of_its_own_in_the_checkout(
    tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> None:
    """With a `--basetemp` that is always the same, each run would remove the files of the one before."""
    if "PYTEST_XDIST_WORKER" not in os.environ:  # whose folder the run that started it has chosen
        assert pytestconfig.getoption("basetemp") is None
    assert TEMPORARY in tmp_path_factory.getbasetemp().parents
