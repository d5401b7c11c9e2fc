"""The frame of the console (look, language, navigation, service banner) and its first page, the status.

``control_room/server.py`` serves it.
"""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from control_room import address, framed, session
from control_room.i18n import LANGUAGES, N_, gettext
from control_room.views import attention, banner, person, status

HERE = Path(__file__).parent

# section -> pages: file, title, icon. A new page is a new line here.
PAGES = {
    N_("Data"): [
        ("upload", N_("Upload"), ":material/upload_file:"),
        ("data_health", N_("Data health"), ":material/monitor_heart:"),
    ],
    N_("Forecasts"): [
        ("predict", N_("Predict"), ":material/online_prediction:"),
        ("whatif", N_("What-if"), ":material/alt_route:"),
        ("history", N_("History"), ":material/history:"),
        ("accuracy", N_("Accuracy"), ":material/target:"),
    ],
    N_("Models"): [
        ("experiments", N_("Experiments"), ":material/compare_arrows:"),
        ("retrain", N_("Retrain"), ":material/model_training:"),
    ],
    N_("Operations"): [
        ("pipelines", N_("Pipelines"), ":material/account_tree:"),
        ("access", N_("API & access"), ":material/key:"),
    ],
}


def status_page() -> None:
    """Home: what is true now, first steps, the champion, what sells next, exceptions, services, last runs."""
    status.lead()
    status.first_steps()
    grid = st.grid(3, min_column_width=270, gap="medium")
    with grid.cell():
        status.champion_card()
    with grid.cell(column_span=2):
        status.outlook()
    attention.today()
    status.services()
    status.last_runs()


def language_switch() -> None:
    """The language of the browser, until another one is chosen; a choice stays in the address (?lang=es)."""
    address.seed(session.LANGUAGE_KEY, list(LANGUAGES), _browser_language())
    with st.sidebar:
        st.segmented_control(
            "Language · Idioma",
            list(LANGUAGES),
            format_func=LANGUAGES.__getitem__,
            key=session.LANGUAGE_KEY,
            required=True,
        )
    address.keep(session.LANGUAGE_KEY, _browser_language())


def _browser_language() -> str:
    spoken = (st.context.locale or "en").split("-")[0].lower()
    return spoken if spoken in LANGUAGES else "en"


def navigation(inside: bool) -> st.Page:
    """Every page has its address; shown are those that are of use to the reader, and none to who is outside."""
    pages = {gettext(section): [_page(*each, inside) for each in found] for section, found in PAGES.items()}
    home = st.Page(status_page, title=gettext("Home"), icon=":material/space_dashboard:", default=True)
    return st.navigation({"": [home], **pages}, position="sidebar" if inside else "hidden")


def _page(name: str, title: str, icon: str, inside: bool) -> st.Page:
    shown = inside and session.may_open(name)
    file = HERE / "pages" / f"{name}.py"
    return st.Page(file, title=gettext(title), icon=icon, url_path=name, visibility="visible" if shown else "hidden")


def main() -> None:
    st.set_page_config(
        page_title="Sales control room", page_icon=str(HERE / "icon.svg"), layout="wide", initial_sidebar_state=250
    )
    st.html(HERE / "look.css")
    st.logo(str(HERE / "logo.svg"), size="large", icon_image=str(HERE / "icon.svg"))
    language_switch()
    choose_file = gettext("Choose a file")
    st.html(f"<style>:root {{ --choose-file: '{choose_file}'; }}</style>")
    refused = person.refusal()
    page = navigation(refused is None)
    framed.go_back()
    if refused is not None:
        person.outside(refused)
        return
    person.frame()
    banner.sidebar()
    if page.url_path:  # the status page says it itself
        banner.top()
    with framed.frame():
        page.run()


if __name__ == "__main__":
    main()
