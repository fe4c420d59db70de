import msgspec
import pytest
from classifier import problems
from classifier.problems import Problem

# Programs compare these: changing one breaks clients.
CONTRACT = [
    (400, "empty_body", problems.EmptyBody),
    (400, "bad_json", problems.BadJson),
    (400, "bad_base64", problems.BadBase64),
    (400, "several_pictures", problems.SeveralPictures),
    (400, "bad_parameter", problems.BadParameter),
    (413, "image_too_large", problems.ImageTooLarge),
    (413, "too_many_instances", problems.TooManyInstances),
    (415, "not_an_image", problems.NotAnImage),
    (422, "image_broken", problems.ImageBroken),
    (500, "internal", problems.Internal),
    (415, "image_not_supported", problems.ImageNotSupported),
    (504, "deadline_exceeded", problems.DeadlineExceeded),
    (501, "not_supported", problems.NotSupported),
]


@pytest.mark.parametrize(("status", "code", "problem"), CONTRACT)
def test_every_problem_is_an_rfc_9457_object_with_a_stable_code(status: int, code: str, problem: type[Problem]) -> None:
    content = msgspec.to_builtins(problem("send a picture").answer())
    assert content == {
        "type": f"urn:problem-type:image-classifier:{code}",
        "title": problem.title,
        "status": status,
        "code": code,
        "detail": "send a picture",
    }


def test_the_contract_lists_every_problem_once() -> None:
    assert {problem for _, _, problem in CONTRACT} == set(Problem.__subclasses__())
    assert len({code for _, code, _ in CONTRACT}) == len(CONTRACT)
    assert len({problem.title for _, _, problem in CONTRACT}) == len(CONTRACT)
