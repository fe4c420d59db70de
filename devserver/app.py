"""The Flask application: translates HTTP to the core's requests, and responses back to HTTP."""

import threading
from http import HTTPStatus
from typing import Any, Final

import flask
import msgspec
from classifier.decode import FORMATS
from classifier.description import describe
from classifier.pipeline import Classifier
from classifier.problems import MEDIA_TYPE, ProblemAnswer
from classifier.recipe import Answers
from classifier.responses import Response
from classifier.service import PARAMETER_HEADERS, PICTURE_FIELDS, SEVERAL_VALUES, Request, answer, answer_explanation
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import HTTPException

_UPLOAD: Final = ("POST", "PUT")  # as on TorchServe; `curl -T` sends PUT
MAX_BODY: Final = 20 * 1024 * 1024  # bytes; as max_request_size in config.properties

# The page loads nothing from other servers, and no content that it shows can run code.
_POLICY: Final = (
    "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; frame-ancestors 'none'"
)


class Served:
    """One loaded model that answers one request at a time, so that each has all threads."""

    def __init__(self, classifier: Classifier, answers: Answers) -> None:
        self.classifier = classifier
        self.answers = answers
        self.model = classifier.identity.model
        self._one_at_a_time = threading.Lock()

    def check(self, name: str, version: str) -> None:
        """End the request with 404 unless it names this model, and its version or none."""
        if name != self.model.name or version not in (self.model.version, ""):
            flask.abort(HTTPStatus.NOT_FOUND, f"this server has {self.model.name} {self.model.version} only")

    def answer(self, asked: Request) -> Response:
        """Answer a request for predictions."""
        with self._one_at_a_time:
            (response,) = answer(self.classifier, [asked], self.answers)
        return response

    def explain(self, asked: Request) -> Response:
        """Answer a request for an explanation."""
        with self._one_at_a_time:
            return answer_explanation(self.classifier, asked, self.answers)


def create_app(classifier: Classifier, answers: Answers | None = None) -> flask.Flask:
    """The application that serves one loaded model.

    Args:
        classifier: the model.
        answers: the form of the answers; the recipe's by default. The page and `/predict` have the full form always.
    """
    app = flask.Flask("devserver")
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    app.config["MAX_FORM_MEMORY_SIZE"] = MAX_BODY
    served = Served(classifier, answers or classifier.recipe.answers)
    _add_description(app, served)
    _add_answers(app, served)
    app.register_error_handler(HTTPException, _http_error)
    app.after_request(_secure)
    return app


def _add_description(app: flask.Flask, served: Served) -> None:
    """Add the routes that describe the server: its page, its health, its model."""

    @app.get("/")
    def page() -> str:
        return flask.render_template("page.html", model=served.model, formats=", ".join(FORMATS))

    @app.get("/ping")
    def ping() -> dict[str, str]:
        return {"status": "Healthy"}

    @app.get("/models/<name>")
    def models(name: str) -> flask.Response:
        served.check(name, "")
        return _flask(describe(served.classifier, served.answers))


def _add_answers(app: flask.Flask, served: Served) -> None:
    """Add the routes that answer requests about pictures.

    A request is read to its end first, so that a slow client does not delay others.
    """

    @app.post("/predict")
    def predict() -> flask.Response:
        asked = _request()
        full = msgspec.structs.replace(asked, parameters={**asked.parameters, "answers": "full"})
        return _flask(_flattened(served.answer(full)))

    @app.route("/predictions/<name>", methods=_UPLOAD)
    @app.route("/predictions/<name>/<version>", methods=_UPLOAD)
    @app.post("/v1/models/<name>:predict")  # KServe's paths; the body tells the protocol
    @app.post("/v2/models/<name>/infer")
    @app.post("/v2/models/<name>/versions/<version>/infer")
    def predictions(name: str, version: str = "") -> flask.Response:
        served.check(name, version)
        return _flask(served.answer(_request()))

    @app.route("/explanations/<name>", methods=_UPLOAD)
    @app.route("/explanations/<name>/<version>", methods=_UPLOAD)
    @app.post("/v1/models/<name>:explain")
    def explanations(name: str, version: str = "") -> flask.Response:
        served.check(name, version)
        return _flask(served.explain(_request()))


def _http_error(error: HTTPException) -> flask.Response:
    """Turn Flask's own errors, for example of an unknown path, into problems too."""
    return _problem(error.code or HTTPStatus.INTERNAL_SERVER_ERROR, error.description or "")


def _secure(response: flask.Response) -> flask.Response:
    response.headers["Content-Security-Policy"] = _POLICY
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


def _request() -> Request:
    """The request that Flask is answering, as a request for the core."""
    got = flask.request
    form = got.mimetype == "multipart/form-data"
    parameters = _single(got.args) | (_single(got.form) if form else {})
    for header, name in PARAMETER_HEADERS.items():
        if header in got.headers:
            parameters.setdefault(name, got.headers[header])
    pictures: list[bytes] = _form_pictures() if form else [got.get_data()]
    return Request(
        body=pictures[0] if pictures else None,
        pictures=len(pictures),
        content_type=got.content_type or "",
        accept=got.headers.get("Accept", ""),
        parameters=parameters,
    )


def _single(values: MultiDict[str, str]) -> dict[str, str]:
    """The parameters of a query or form."""
    return {name: found[0] if len(found) == 1 else SEVERAL_VALUES for name, found in values.lists()}


def _form_pictures() -> list[bytes]:
    """The pictures of the form: files, or fields with text. Empty ones are files that nobody chose."""
    got = flask.request
    files = [file.read() for field in PICTURE_FIELDS for file in got.files.getlist(field)]
    texts = [text.encode() for field in PICTURE_FIELDS for text in got.form.getlist(field)]
    return [picture for picture in files + texts if picture]


def _flattened(response: Response) -> Response:
    """Add the likeliest class's `class_id` and `class_name` to the contract's fields of the answer to one picture."""
    if response.status != HTTPStatus.OK:
        return response
    content: dict[str, Any] = msgspec.json.decode(response.body)
    if "predictions" not in content:
        return response
    best = content["predictions"][0]
    return msgspec.structs.replace(
        response,
        body=msgspec.json.encode({"class_id": best["class_id"], "class_name": best["class_name"], **content}),
    )


def _flask(response: Response) -> flask.Response:
    return flask.Response(response.body, response.status, content_type=response.content_type)


def _problem(status: int, detail: str) -> flask.Response:
    """The response for a problem of HTTP itself, which has no type of its own (RFC 9457, about:blank)."""
    phrase = HTTPStatus(status).phrase
    content = ProblemAnswer(
        type="about:blank", title=phrase, status=int(status), code=phrase.lower().replace(" ", "_"), detail=detail
    )
    return flask.Response(msgspec.json.encode(content), status, content_type=MEDIA_TYPE)
