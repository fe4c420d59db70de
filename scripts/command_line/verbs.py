"""Every verb of the program: what it does, where its function is, and which optional packages it needs.

The functions are named, not imported: `--help` answers at once, and a verb imports no more than it uses. Their modules
import what is optional inside functions, so that help and a wrong option install nothing. A verb whose
module is not installed (the wheel carries what a server needs, and no more) is left out.
"""

from typing import Final, NamedTuple


class Verb(NamedTuple):
    """One verb, which is one Make target."""

    name: str
    function: str  # module:name; its parameters are the options
    summary: str
    # Extras of pyproject.toml besides those that `make setup` installs, and besides what an archive's runtime takes,
    # which comes when it is built or loaded.
    needs: tuple[str, ...] = ()


class MakeTarget(NamedTuple):
    """A target of the Makefile that no verb stands behind."""

    name: str
    summary: str


Section = tuple[str, tuple[Verb | MakeTarget, ...]]

SECTIONS: Final[tuple[Section, ...]] = (
    (
        "Set-up",
        (
            MakeTarget("setup", "the virtual environment that archives and servers need, Java included"),
            Verb(
                "setup-system",
                "scripts.setup.system_packages:main",
                "install the system programs that tests and benchmarks need (as root)",
            ),
        ),
    ),
    (
        "Archives",
        (
            Verb("adopt", "scripts.adopting.adopt:main", "write the recipe of a model that you have"),
            Verb("archive", "scripts.building.targets:archive", "build archives, unless they are up to date"),
            Verb("archives", "scripts.building.targets:archives", "build every archive of the recipe that runs here"),
            Verb("key", "scripts.admission.signing:key", "make a pair of keys to sign archives with"),
            Verb("sign", "scripts.admission.signing:sign_archives", "sign archives"),
        ),
    ),
    (
        "Serving",
        (
            Verb("serve", "scripts.serving.serve:main", "start TorchServe and wait until every worker is READY"),
            Verb(
                "up",
                "gateway.stack:up",
                "start a server, Prometheus, the gateway and the dashboard",
                ("gateway",),
            ),
            Verb("down", "gateway.stack:down", "end what `up` started, answering first what was asked"),
            Verb("stop", "scripts.serving.serve:stop_server", "stop the server that `serve` started"),
            Verb("status", "scripts.serving.status:main", "show addresses, models and workers"),
            Verb("logs", "scripts.serving.logs:main", "show the end of the server's log, or one request's lines"),
            Verb("token", "scripts.serving.token:main", "print the token of an API, for a server that asks for tokens"),
            Verb(
                "check-config", "scripts.serving.check_config:main", "find what is dangerous or slow in a configuration"
            ),
        ),
    ),
    (
        "Asking",
        (
            Verb("demo", "scripts.command_line.demo:main", "build, serve and ask two models about a photograph"),
            Verb("predict", "scripts.predicting.predict:main", "ask a running server about a picture"),
            Verb("classify", "scripts.predicting.classify:main", "classify a picture without a server"),
            Verb(
                "explain",
                "scripts.predicting.explain:main",
                "draw which parts of a picture speak for a class",
                ("explain",),
            ),
            Verb(
                "devserver",
                "devserver.__main__:main",
                "serve a page for trying pictures by hand",
                ("devserver", "explain"),
            ),
        ),
    ),
    (
        "Versions of a running server",
        (
            Verb("register", "scripts.serving.manage:register_archive", "add a version and wait until it is READY"),
            Verb("versions", "scripts.serving.manage:versions", "list the registered versions"),
            Verb("describe", "scripts.serving.manage:describe", "show a model's description of itself"),
            Verb("default", "scripts.serving.manage:default", "make a version the default, which answers"),
            Verb("scale", "scripts.serving.manage:scale", "set the number of workers"),
            Verb("unregister", "scripts.serving.manage:unregister", "remove a version"),
        ),
    ),
    (
        "Measuring",
        (
            Verb(
                "parity", "scripts.measuring.parity:main", "compare the answers, size and speed of a model's archives"
            ),
            Verb(
                "evaluate", "scripts.measuring.evaluate:main", "measure top-1 and top-5 accuracy on labelled pictures"
            ),
            Verb(
                "baseline",
                "scripts.measuring.baseline:main",
                "write what live traffic is compared with: answers to your pictures",
            ),
            Verb(
                "prune",
                "scripts.measuring.prune:main",
                "set a model's smallest weights to zero and measure what remains",
                ("plots",),
            ),
            Verb("card", "scripts.card.page:main", "write a page to hand over with an archive", ("card",)),
            Verb(
                "tune",
                "benchmarks.tune:main",
                "find the best archive, workers, threads and batch size here",
                ("bench",),
            ),
            Verb(
                "bench",
                "benchmarks.__main__:main",
                "measure speed against TorchServe's own handler, and other servers",
                ("bench",),
            ),
        ),
    ),
    (
        "Elsewhere",
        (
            Verb(
                "onnx", "edge.onnx_file:main", "write the model as a checked ONNX file", ("onnxruntime", "export-onnx")
            ),
            Verb("bundle", "edge.bundle:main", "write the files that programs in other languages need"),
            Verb("cpp", "edge.cpp_program:main", "build the C++ program and the bundle that it reads"),
            Verb("mobile", "edge.mobile:main", "write programs for phones", ("mobile",)),
            Verb("triton", "edge.triton.repository:main", "write a model repository for NVIDIA's Triton"),
            Verb("triton-serve", "edge.triton.server:main", "run NVIDIA's Triton with that repository"),
            Verb(
                "everywhere",
                "benchmarks.everywhere:main",
                "ask every home of a model about the same photographs",
                ("devserver", "mobile", "onnxruntime", "export-onnx"),
            ),
        ),
    ),
    (
        "Several servers, and shipping",
        (
            Verb("gateway", "gateway.__main__:main", "run Envoy in front of several servers", ("gateway",)),
            Verb("split", "gateway.__main__:split", "divide a model's requests among its versions", ("gateway",)),
            Verb("gateway-status", "gateway.__main__:gateway_status", "show what the gateway sends where"),
            Verb("drain", "gateway.__main__:drain", "send no more requests to a server behind the gateway"),
            Verb("restore", "gateway.__main__:restore", "send requests to a drained server again"),
            Verb("monitor", "monitoring.__main__:main", "run Prometheus with rules and alerts for the server"),
            Verb("dashboard", "monitoring.dashboard:main", "show what a server does, in a browser"),
            Verb("image", "scripts.shipping.image:main", "build the container image"),
            Verb(
                "ship-validate", "scripts.shipping.validate:main", "validate manifests, Dockerfiles and compose files"
            ),
            Verb("openapi", "scripts.shipping.openapi:main", "write the HTTP contract to docs/openapi.json"),
            Verb(
                "recipe-schema",
                "scripts.shipping.recipe_schema:main",
                "write the schema with which editors check recipes",
            ),
        ),
    ),
    (
        "Under stress",
        (
            Verb("withstand", "stress.withstand:main", "send hostile pictures among good ones to the running server"),
            Verb(
                "faults",
                "stress.faults.__main__:main",
                "measure what clients see of faults (as root)",
                ("openvino", "export-onnx", "export-openvino"),
            ),
            Verb(
                "scale-out",
                "stress.scale_out.__main__:main",
                "try several servers behind Envoy (as root)",
                ("gateway",),
            ),
            Verb(
                "soak",
                "stress.soak.__main__:main",
                "load a server for a long time and check that nothing grows",
                ("plots",),
            ),
            Verb("fuzz", "stress.fuzz.__main__:main", "look for bytes that the decoder cannot handle", ("fuzz",)),
        ),
    ),
    (
        "Developing",
        (
            MakeTarget("test", "a test of every mechanism, as CI runs it"),
            MakeTarget("test-unit", "the quick unit tests, offline"),
            MakeTarget("test-all", "every test there is"),
            MakeTarget("test-integration", "every test against real servers"),
            MakeTarget("lint", "check format, style, types and imports"),
            MakeTarget("format", "format, and correct what lint can correct"),
            Verb("reference", "scripts.command_line.reference:main", "write the lists of targets for help and README"),
            MakeTarget("clean", "stop the server, remove archives, weights and environments"),
            MakeTarget("help", "this list"),
        ),
    ),
)

VERBS: Final[dict[str, Verb]] = {
    verb.name: verb for _, targets in SECTIONS for verb in targets if isinstance(verb, Verb)
}
