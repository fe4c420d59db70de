"""The tokens that TorchServe asks for: where a client finds them, and how it requests new ones."""

import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from scripts.console import UserError

Api = Literal["inference", "management"]

REFUSED: Final = "InvalidKeyException"  # TorchServe's word for a missing, wrong or expired token, with status 400
_VARIABLES: Final[dict[Api, str]] = {"inference": "INFERENCE_TOKEN", "management": "MANAGEMENT_TOKEN"}


class Tokens:
    """The tokens of one server: from the environment, or else from the file that the server writes."""

    def __init__(self, key_file: Path | None, environment: Mapping[str, str] = os.environ) -> None:
        """Nothing is read yet.

        Args:
            key_file: where the server writes its tokens, if it asks for any.
            environment: variables, which may include INFERENCE_TOKEN and MANAGEMENT_TOKEN.
        """
        self._key_file = key_file
        self._environment = environment

    def explicit(self, api: Api) -> bool:
        """Whether the environment has the token of that API."""
        return bool(self._environment.get(_VARIABLES[api]))

    def headers(self, api: Api) -> dict[str, str]:
        """The headers of a request to that API. The file is read each time, because a restarted server has new tokens.

        Raises:
            UserError: the file cannot be read, for example because of its permissions.
        """
        key = self._environment.get(_VARIABLES[api]) or self._keys().get(api, {}).get("key")
        return {"Authorization": f"Bearer {key}"} if key else {}

    def renewal_headers(self) -> dict[str, str]:
        """The headers of a request for a new token.

        Raises:
            UserError: there is no file with the key for such requests, or as `headers`.
        """
        keys = self._keys()
        if "API" not in keys:
            raise UserError("no key file; the server was started without tokens, or is still starting")
        return {"Authorization": f"Bearer {keys['API']['key']}"}

    def refusal(self, api: Api) -> str:
        """The message about a token that was refused, which says what to do."""
        variable = _VARIABLES[api]
        if self.explicit(api):
            return f"the server refuses the token of {variable}: it is wrong or expired, or for another API or server"
        until = self._keys().get(api, {}).get("expiration time")
        if until is None:
            return f"the server asks for a token: put the token of its {api} API into {variable}"
        renew = f"`make token API={api} RENEW=1` renews it"
        return f"the server refuses the token of {self._key_file}, valid until {until}; {renew}"

    def expirations(self) -> dict[Api, datetime]:
        """When the server's own tokens expire, by API; raises as `headers`."""
        keys = self._keys()
        said: dict[Api, str] = {api: keys[api]["expiration time"] for api in _VARIABLES if api in keys}
        return {api: datetime.fromisoformat(time) for api, time in said.items()}

    def _keys(self) -> dict[str, dict[str, Any]]:
        if self._key_file is None:
            return {}
        try:
            return msgspec.json.decode(self._key_file.read_bytes(), type=dict[str, dict[str, Any]])
        except (FileNotFoundError, msgspec.DecodeError):  # not written yet, or not completely
            return {}
        except OSError as error:
            raise UserError(f"{self._key_file}: {error.strerror}; set the tokens in the environment instead") from error
