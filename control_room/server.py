"""The console as it is served: Streamlit behind the door and the gate, and the pages that sign people in.

``streamlit run control_room/server.py``; the project must be installed.
"""

from __future__ import annotations

from pathlib import Path

from starlette.middleware import Middleware
from streamlit import config
from streamlit.starlette import App

from control_room.door import Door, one_log
from control_room.gate import Gate, check_address
from control_room.oidc import secrets_of
from control_room.session import connect_as
from control_room.signing_in import SigningIn
from ml import logs
from ml.settings import load_settings

settings = load_settings()
logs.configure(settings.log_format)
check_address(settings, config.get_option("server.address"))
app = App(
    Path(__file__).parent / "Home.py",
    secrets=secrets_of(settings),
    routes=SigningIn(settings, connect_as).routes() if settings.sign_in == "accounts" else [],
    middleware=[Middleware(Door, settings=settings), Middleware(Gate, settings=settings)],
    lifespan=one_log,
)
