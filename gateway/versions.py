"""Which version of a model answers a request, as routes and clusters of Envoy.

Each version is a cluster of its own: in TorchServe it has its own queue and workers, so it has its own limits, health
and retries here. All of them are the same replicas. A filter of the cluster writes the version into the path, which
the routes leave as it is.
"""

import re
from collections.abc import Iterator, Mapping
from itertools import accumulate, pairwise
from string import Template
from typing import Any, Final, NamedTuple

import msgspec
from classifier.problems import MEDIA_TYPE

from gateway.endpoints import SHADOW
from gateway.problems import no_such_version
from gateway.routes import ModelRoutes, Routes, Sticky

PIN: Final = "x-model-version"  # in a request: the version that the caller wants; in an answer: the one that answered
BY: Final = "x-version-by"  # in an answer: what chose the version
VERBS: Final = ("predictions", "explanations")

_PARTS: Final = 1_000_000  # that all requests have
_ID: Final = "x-request-id"  # Envoy's own: it takes none from outside
_OF_DEFAULTS: Final = "replicas"  # the cluster for requests to default versions
_REWRITE: Final = Template(
    """
    function envoy_on_request(handle)
      local explain = handle:headers():get(":path"):sub(1, 14) == "/explanations/"
      handle:headers():replace(":path", (explain and "/explanations/" or "/predictions/") .. "$asked")
    end
    """
)


Route = dict[str, Any]
Action = Mapping[str, Any]  # Envoy's RouteAction


class Group(NamedTuple):
    """A cluster: the replicas, as those that answer for one version."""

    name: str
    asked: str  # what its health check asks, below /predictions/
    at_once: int | None = None  # requests in flight, for a shadow

    @property
    def filters(self) -> list[dict[str, Any]]:
        """The filters that write the version into the path."""
        if self.name == _OF_DEFAULTS:
            return []
        return [
            {
                "name": "version",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
                    "default_source_code": {"inline_string": _REWRITE.substitute(asked=self.asked)},
                },
            },
            {
                "name": "envoy.filters.http.upstream_codec",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec"
                },
            },
        ]


def groups(routes: Routes, model: str) -> list[Group]:
    """The clusters that routes need.

    Args:
        routes: the routes.
        model: the model whose default version must be READY.
    """
    found = [Group(_OF_DEFAULTS, model)]
    for name, of in routes.models.items():
        found += [Group(_cluster(name, version), f"{name}/{version}") for version in of.versions]
        if of.shadow is not None:
            version = of.shadow.version
            found.append(Group(SHADOW + _cluster(name, version), f"{name}/{version}", of.shadow.at_once))
    return found


def _cluster(model: str, version: str) -> str:
    return f"{model}_{version}"


def version_routes(routes: Routes, action: Action) -> Iterator[Route]:
    """The routes of all versions, the most particular first.

    Args:
        routes: which there are.
        action: how long a classification may take and what is retried, as for default versions.
    """
    for name, of in routes.models.items():
        for verb in VERBS:
            yield from _of_model(name, of, f"/{verb}/{name}", action, shadowed=verb == "predictions")
            for version in of.versions:
                match = {"path": f"/{verb}/{name}/{version}"}
                yield _to(match, action, {"cluster": _cluster(name, version)}, _says(version, "path"))
    if routes.predict in routes.models:
        yield from _of_model(routes.predict, routes.models[routes.predict], "/predict", action, shadowed=True)
    elif routes.predict is not None:
        rewritten = {"cluster": _OF_DEFAULTS, "prefix_rewrite": f"/predictions/{routes.predict}"}
        yield _to({"path": "/predict"}, action, rewritten)


def _of_model(model: str, of: ModelRoutes, path: str, action: Action, *, shadowed: bool) -> Iterator[Route]:
    """The routes of one path that names no version."""
    mirror = _mirror(model, of) if shadowed else {}
    for version in of.versions:
        match = {"path": path, "headers": [{"name": PIN, "string_match": {"exact": version}}]}
        yield _to(match, action, {"cluster": _cluster(model, version)}, _says(version, "pin"))
    yield _refusal({"path": path, "headers": [{"name": PIN, "present_match": True}]}, model, of)
    if of.sticky is not None:
        known, by = _known_by(of.sticky)
        yield _to({"path": path, "headers": [known]}, action, _weighted(model, of, "caller", hashed=True) | by | mirror)
    if of.sticky is not None and of.sticky.cookie is not None:
        # The new cookie is the request's id, which chose the version, and chooses the same one from now on
        chosen = _weighted(model, of, "weights", hashed=True) | _hashed({"header": {"header_name": _ID}})
        yield _to({"path": path}, action, chosen | mirror, [_new_cookie(of.sticky)])
    else:
        yield _to({"path": path}, action, _weighted(model, of, "weights") | mirror)


def _weighted(model: str, of: ModelRoutes, by: str, *, hashed: bool = False) -> dict[str, Any]:
    clusters = [
        {"name": _cluster(model, version), "weight": weight, "response_headers_to_add": _says(version, by)}
        for version, weight in _of_one_sum(of.versions).items()
    ]
    return {"weighted_clusters": {"clusters": clusters} | ({"use_hash_policy": True} if hashed else {})}


def _of_one_sum(weights: Mapping[str, int]) -> dict[str, int]:
    """The weights as parts of the same sum: Envoy takes a caller's hash modulo it, so another one would mix all up."""
    total, ends = sum(weights.values()), accumulate(weights.values())
    bounds = [0, *(round(_PARTS * end / total) for end in ends)]
    return {version: end - begin for version, (begin, end) in zip(weights, pairwise(bounds), strict=True)}


def _known_by(sticky: Sticky) -> tuple[dict[str, Any], dict[str, Any]]:
    """Which requests are of callers that are known, and what of them chooses the version."""
    if sticky.header is not None:
        return {"name": sticky.header, "present_match": True}, _hashed({"header": {"header_name": sticky.header}})
    cookie = {"safe_regex": {"regex": rf"(.*;\s*)?{re.escape(sticky.cookie or '')}=.+"}}
    return {"name": "cookie", "string_match": cookie}, _hashed({"cookie": {"name": sticky.cookie}})


def _hashed(policy: dict[str, Any]) -> dict[str, Any]:
    return {"hash_policy": [policy]}


def _new_cookie(sticky: Sticky) -> dict[str, Any]:
    value = f"{sticky.cookie}=%REQ({_ID})%; Path=/; Max-Age={sticky.cookie_s}; HttpOnly; SameSite=Lax"
    return {"header": {"key": "set-cookie", "value": value}, "append_action": "APPEND_IF_EXISTS_OR_ADD"}


def _mirror(model: str, of: ModelRoutes) -> dict[str, Any]:
    if of.shadow is None:
        return {}
    share = {"numerator": round(of.shadow.percent * 10_000), "denominator": "MILLION"}
    policy = {"cluster": SHADOW + _cluster(model, of.shadow.version), "runtime_fraction": {"default_value": share}}
    return {"request_mirror_policies": [policy]}


def _to(
    match: dict[str, Any], action: Action, to: Mapping[str, Any], says: list[dict[str, Any]] | None = None
) -> Route:
    rest = {name: value for name, value in action.items() if name != "cluster"}
    return {"match": match, "route": {**rest, **to}} | ({"response_headers_to_add": says} if says else {})


def _says(version: str, by: str) -> list[dict[str, Any]]:
    return [_header(PIN, version), _header(BY, by)]


def _header(name: str, value: str) -> dict[str, Any]:
    return {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def _refusal(match: dict[str, Any], model: str, of: ModelRoutes) -> Route:
    """The answer to a caller that wants a version which there is not."""
    problem = no_such_version(model, list(of.versions), PIN)
    body = msgspec.json.encode(problem).decode()
    return {
        "match": match,
        "direct_response": {"status": problem.status, "body": {"inline_string": body}},
        "response_headers_to_add": [_header("content-type", MEDIA_TYPE)],
    }
