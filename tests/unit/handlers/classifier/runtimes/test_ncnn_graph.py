import pytest
from classifier.runtimes.ncnn_graph import Linear, read_graph

BEGIN = [
    "Input       in0     0 1 in0",
    "Convolution conv_0  1 1 in0 1 0=8 1=3 6=216 9=1",
    "Flatten     flat_0  1 1 1 2",
]


def text(*layers: str, blobs: int | None = None) -> str:
    lines = [*BEGIN, *layers]
    return "\n".join(["7767517", f"{len(lines)} {blobs or len(lines)}", *lines]) + "\n"


def test_the_linear_layers_at_the_end_are_taken_out_of_the_graph() -> None:
    graph = read_graph(text(
        "InnerProduct fcrelu_0 1 1 2 3 0=20 1=1 2=2000 9=1",
        "InnerProduct fc_1 1 1 3 4 0=30 2=600",
        "InnerProduct fc_2 1 1 4 out0 0=10 1=1 2=300 9=0",
    ))  # fmt: skip
    assert graph.text == text()
    assert graph.output == "2"
    assert graph.linear == [
        Linear(inputs=100, outputs=20, bias=True, relu=True),
        Linear(inputs=20, outputs=30, bias=False, relu=False),
        Linear(inputs=30, outputs=10, bias=True, relu=False),
    ]


@pytest.mark.parametrize(
    "layers",
    [
        ["InnerProduct fc_0 1 1 2 3 0=20 1=1 2=2000", "Softmax soft_0 1 1 3 out0 0=0 1=1"],
        ["InnerProduct fc_0 1 1 2 out0 0=20 1=1 2=2000 9=4"],  # with a sigmoid
        ["InnerProduct fc_0 1 1 2 out0 0=20 1=1 2=2000 8=1"],  # in int8
        ["Split s_0 1 2 2 3 4", "InnerProduct fc_0 1 1 3 out0 0=20 2=2000", "InnerProduct fc_1 1 1 4 out1 0=9 2=900"],
    ],
)
def test_a_graph_that_ends_otherwise_stays_whole(layers: list[str]) -> None:
    whole = text(*layers, blobs=7)
    assert read_graph(whole) == (whole, "out0", [])


def test_only_layers_that_follow_each_other_are_taken() -> None:
    graph = read_graph(text(
        "InnerProduct fc_0 1 1 2 3 0=20 1=1 2=2000",
        "Swish swish_0 1 1 3 4",
        "InnerProduct fc_1 1 1 4 out0 0=10 1=1 2=200",
    ))  # fmt: skip
    assert graph.output == "4"
    assert [layer.outputs for layer in graph.linear] == [10]


@pytest.mark.parametrize(
    "changed",
    [
        "",
        "7767517\n",
        "7767517\nthree layers\n",
        text().replace("7767517", "7767518"),
        text()[:-20],
        text().replace("3 3", "4 4"),
        text("InnerProduct fc_0 1 1 2 out0 0=20 1=1 2=2001"),
        text("InnerProduct fc_0 1 1 2 out0 0=0 1=1 2=2000"),
        text("InnerProduct fc_0 1 1 2 out0 0 1=1 2=2000"),
        text("InnerProduct fc_0 1 1 2 out0 1=1 2=2000"),
        text("InnerProduct fc_0 1 1 2 out0 0=20 1=1"),
        text("InnerProduct fc_0 1 1 2 out0 0=twenty 1=1 2=2000"),
    ],
)
def test_what_is_no_graph_is_refused(changed: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 # Python's own messages, some of them
        read_graph(changed)
