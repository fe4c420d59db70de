from classifier.recipe import Serving

from scripts.archives.settings import front_end_settings


def test_torchserve_is_never_told_0_which_means_its_default_or_batches_of_two() -> None:
    assert [front_end_settings(Serving(max_batch_delay_ms=delay))["maxBatchDelay"] for delay in (0, 1, 7)] == [1, 1, 7]


def test_the_settings_are_those_of_the_recipe() -> None:
    serving = Serving(batch_size=3, max_batch_delay_ms=4, workers=2, response_timeout_s=5, startup_timeout_s=6)
    assert front_end_settings(serving) == {
        "minWorkers": 2,
        "maxWorkers": 2,
        "batchSize": 3,
        "maxBatchDelay": 4,
        "responseTimeout": 5,
        "startupTimeout": 6,
    }
