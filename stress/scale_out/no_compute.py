"""A model that computes nothing, so that the time of an answer is only that of the route to the model and back."""

import tempfile
from pathlib import Path
from typing import Final

import yaml
from classifier.identity import Identity, Model, write_identity

from scripts.archives.format import SUFFIX
from scripts.archives.store import Archive, find_archive
from scripts.building.packing import Content, pack

NAME: Final = "no_compute"

_VERSION: Final = "1.0"
_BATCH: Final = 8
_HANDLER: Final = '''"""Answers every picture the same."""

ANSWER = b'{"class": "nothing", "model": {"name": "no_compute", "version": "1.0"}}'
EMPTY = b'{"code": "empty_body"}'  # what the gateway's health check looks for


def handle(data, context):
    if data is None:  # TorchServe's call at load
        return None
    for index, row in enumerate(data):
        if not (row.get("body") or row.get("data")):
            context.set_response_status(400, "Bad Request", index)
    return [ANSWER if row.get("body") or row.get("data") else EMPTY for row in data]
'''


def build(store: Path) -> Archive:
    """Build the model's archive, with digests and an identity like every other archive, in a store."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        extra = work / "extra"
        extra.mkdir()
        (work / f"{NAME}.py").write_text(_HANDLER)
        (work / "nothing").touch()
        config = {"minWorkers": 1, "maxWorkers": 1, "batchSize": _BATCH, "maxBatchDelay": 1}
        (work / "model-config.yaml").write_text(yaml.safe_dump(config))
        model = Model(name=NAME, version=_VERSION, runtime="eager", precision="float32", weights="none")
        write_identity(Identity(model=model, weights_sha256="", serialized_file="nothing"), extra)
        content = Content(
            model_name=NAME,
            version=_VERSION,
            handler=work / f"{NAME}.py",
            serialized_file=work / "nothing",
            model_file=None,
            config_file=work / "model-config.yaml",
            extra_folder=extra,
        )
        pack(content, "zip-store", store / f"{NAME}{SUFFIX['zip-store']}", work)
    return find_archive(NAME, store)
