"""The file of an archive that TorchServe's front end reads."""

from typing import Final

from classifier.recipe import Serving

MODEL_CONFIG: Final = "model-config.yaml"


def front_end_settings(serving: Serving) -> dict[str, int]:
    """What TorchServe's front end is to know of a recipe's `serving`. The delay is in ms, the timeouts in s."""
    return {
        "minWorkers": serving.workers,
        "maxWorkers": serving.workers,
        "batchSize": serving.batch_size,
        "maxBatchDelay": serving.max_batch_delay_ms,
        "responseTimeout": serving.response_timeout_s,
        "startupTimeout": serving.startup_timeout_s,
    }
