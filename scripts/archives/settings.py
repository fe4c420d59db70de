"""The settings of an archive that TorchServe's front end reads."""

from typing import Annotated, Final

import msgspec
import yaml
from classifier.recipe import Serving
from msgspec import Meta

MODEL_CONFIG: Final = "model-config.yaml"

_Count = Annotated[int, Meta(ge=1)]
_Delay = Annotated[int, Meta(ge=0)]


class FrontEndSettings(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, rename="camel"
):
    """All that an archive may tell TorchServe's front end. The delay is in ms, the timeouts in s."""

    min_workers: _Count | None = None
    max_workers: _Count | None = None
    batch_size: _Count | None = None
    max_batch_delay: _Delay | None = None
    response_timeout: _Count | None = None
    startup_timeout: _Count | None = None


def front_end_settings(serving: Serving) -> dict[str, int]:
    """The settings of TorchServe's front end that follow from a recipe's `serving`.

    The delay is at least 1 ms. In an archive TorchServe reads 0 as its default; and whoever registers a model with 0
    gets no batches: it stops collecting after the second request, because the time for it is over, whatever else waits.
    """
    settings: dict[str, int] = msgspec.to_builtins(
        FrontEndSettings(
            min_workers=serving.workers,
            max_workers=serving.workers,
            batch_size=serving.batch_size,
            max_batch_delay=max(1, serving.max_batch_delay_ms),
            response_timeout=serving.response_timeout_s,
            startup_timeout=serving.startup_timeout_s,
        )
    )
    return settings


def settings_text(settings: object) -> str:
    """The text of settings, spelt the same way in every archive."""
    return yaml.safe_dump(settings, sort_keys=False)
