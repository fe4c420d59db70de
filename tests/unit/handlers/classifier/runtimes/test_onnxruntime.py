import onnxruntime
import pytest
from classifier.runtimes.onnxruntime import _providers

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


@pytest.mark.parametrize(
    ("device", "available", "expected"),
    [
        ("cpu", [CPU], [CPU]),
        ("cpu", [CUDA, CPU], [CPU]),
        ("cuda:0", [CPU], [CPU]),
        ("cuda:0", [CUDA, CPU], [(CUDA, {"device_id": "0"}), CPU]),
        ("cuda:1", [CUDA, CPU], [(CUDA, {"device_id": "1"}), CPU]),
        ("cuda", [CUDA, CPU], [(CUDA, {"device_id": "0"}), CPU]),
    ],
)
def test_a_gpu_computes_where_there_is_one_and_the_package_for_it(
    device: str, available: list[str], expected: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: available)
    assert _providers(device) == expected
