"""Request bodies, read piece by piece: the limit in bytes and the deadline hold before anything is parsed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from starlette.requests import ClientDisconnect, Request

from ml.errors import InputError, TooLarge

MB = 1_000_000
BODY_LIMIT = 1 * MB  # for everything that is not a file
PREDICT_LIMIT = 16 * MB  # 5,000 rows with every regressor stay far below
STALLED_SECONDS = 20.0  # without a byte for so long, a sender is not slow but gone
GRACE_SECONDS, LEAST_RATE = 60.0, 1_000.0  # after a minute a body has come with at least so many bytes per second


async def pieces(request: Request, limit: int) -> AsyncIterator[bytes]:
    """The body as it arrives; raises TooLarge as soon as it is known to be more than ``limit`` bytes."""
    declared = request.headers.get("content-length", "0")
    if declared.isdigit() and int(declared) > limit:
        raise _too_large(limit)
    if request.headers.get("content-encoding", "identity") != "identity":
        raise InputError("Compressed bodies are not read: send the content as it is, without Content-Encoding.")
    seen, stream, began = 0, request.stream(), time.monotonic()
    while True:
        try:
            async with asyncio.timeout(STALLED_SECONDS):
                piece = await anext(stream, None)
        except TimeoutError as error:
            raise InputError(f"The body stopped arriving for {STALLED_SECONDS:g} seconds.") from error
        except ClientDisconnect as error:
            raise InputError("The connection ended before the body did.") from error
        if piece is None:
            return
        seen += len(piece)
        if seen > limit:
            raise _too_large(limit)
        _refuse_trickle(seen, time.monotonic() - began)
        yield piece


def _refuse_trickle(seen: int, seconds: float) -> None:
    if seconds > GRACE_SECONDS and seen < LEAST_RATE * seconds:
        raise InputError(f"The body comes too slowly: {seen:,} bytes in {seconds:.0f} seconds.")


async def read_body(request: Request, limit: int = BODY_LIMIT) -> bytes:
    """The whole body; raises TooLarge."""
    return b"".join([piece async for piece in pieces(request, limit)])


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"The body may have at most {limit / MB:g} MB here.", limit=limit)
