"""Keeps the page to itself: nothing is reported or looked up, and no browser may load anything from elsewhere."""

import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

SWITCHES = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}
"""Environment of Gradio and the Hub's client that keeps both silent."""

# Gradio's own scripts are inline and build functions from text.
_POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; connect-src 'self' data: blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)

HEADERS = {
    b"content-security-policy": _POLICY.encode(),
    b"referrer-policy": b"no-referrer",
    b"x-content-type-options": b"nosniff",
}
"""Sent with every answer."""

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]


def silence() -> None:
    """Switch off what Gradio and the Hub's client would report; has to come before Gradio is imported."""
    os.environ.update(SWITCHES)


class Secluded:
    """ASGI middleware that adds `HEADERS` to every answer.

    Args:
        app: What answers.
    """

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self.app = app

    async def __call__(self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Send) -> None:
        """Answer a request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *HEADERS.items()]
            await send(message)

        await self.app(scope, receive, send_with_headers)
