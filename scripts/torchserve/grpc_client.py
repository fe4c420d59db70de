"""A client of TorchServe's gRPC APIs, with the stubs that `make setup` generates from TorchServe's own proto files."""

import json
from pathlib import Path
from typing import Any, Final

import grpc
from torchserve_grpc import inference_pb2, inference_pb2_grpc, management_pb2, management_pb2_grpc

from scripts.torchserve.config import Addresses
from scripts.torchserve.failures import RequestFailedError, failure_of
from scripts.torchserve.tokens import Api, Tokens

_TIMEOUT_S: Final = 130


class GrpcClient:
    """One server's gRPC APIs. Use as a context manager: it holds two connections."""

    def __init__(self, addresses: Addresses, key_file: Path | None = None) -> None:
        """Open no connection yet; the arguments are those of `Client`."""
        self._tokens = Tokens(key_file)
        options = [("grpc.enable_http_proxy", 0)]  # the server is on this machine or in the cluster
        self._channels = [
            grpc.insecure_channel(address, options) for address in (addresses.grpc_inference, addresses.grpc_management)
        ]
        self._inference = inference_pb2_grpc.InferenceAPIsServiceStub(self._channels[0])  # type: ignore[no-untyped-call]
        self._management = management_pb2_grpc.ManagementAPIsServiceStub(self._channels[1])  # type: ignore[no-untyped-call]

    def __enter__(self) -> "GrpcClient":
        return self

    def __exit__(self, *_: object) -> None:
        for channel in self._channels:
            channel.close()

    def predict(self, image: bytes, model: str, version: str | None = None, top_k: int | None = None) -> dict[str, Any]:
        """Classify one picture: the same answer as over REST.

        Raises:
            RequestFailedError: the server refused the request; `code` is gRPC's status.
        """
        parameters = {"answers": b"full"} | ({} if top_k is None else {"top_k": str(top_k).encode()})
        request = inference_pb2.PredictionsRequest(
            model_name=model, model_version=version or "", input={"data": image, **parameters}
        )
        content: dict[str, Any] = json.loads(self._call("inference", self._inference.Predictions, request).prediction)
        if "detail" in content:  # gRPC carries no status of the handler, so a problem arrives as a normal answer
            raise failure_of(content["status"], content)
        return content

    def describe(self, model: str) -> Any:
        """Describe the default version of a model: the same answer as over REST."""
        request = management_pb2.DescribeModelRequest(model_name=model)
        return json.loads(self._call("management", self._management.DescribeModel, request).msg)

    def _call(self, api: Api, method: Any, request: Any) -> Any:
        metadata = [(name.lower(), value) for name, value in self._tokens.headers(api).items()]
        try:
            return method(request, timeout=_TIMEOUT_S, metadata=metadata)
        except grpc.RpcError as error:
            refused = error.code() is grpc.StatusCode.PERMISSION_DENIED  # the only reason for it is a token
            message = self._tokens.refusal(api) if refused else error.details()
            raise RequestFailedError(0, error.code().name, f"{message} (gRPC {error.code().name})") from error
