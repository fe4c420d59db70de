from classifier.recipe import Serving

from scripts.archives.settings import front_end_settings, registered_settings


def test_an_archive_never_says_0_which_torchserve_reads_as_100_ms() -> None:
    assert [front_end_settings(Serving(max_batch_delay_ms=delay))["maxBatchDelay"] for delay in (0, 1, 7)] == [1, 1, 7]


def test_whoever_registers_an_archive_says_what_its_recipe_says() -> None:
    serving = Serving(batch_size=3, max_batch_delay_ms=0, workers=2, response_timeout_s=5, startup_timeout_s=6)
    assert registered_settings(serving) == {
        "minWorkers": 2,
        "maxWorkers": 2,
        "batchSize": 3,
        "maxBatchDelay": 0,
        "responseTimeout": 5,
        "startupTimeout": 6,
    }
