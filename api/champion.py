"""The champion: followed by its alias, verified before it answers, swapped whole, kept when everything else is away."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from api.loading import Loaded, Loader
from api.published import Published, PublishedFolder
from ml.errors import ControlRoomError, NoChampion, NotFound, ServiceDown
from ml.records import ModelInfo
from ml.succession import settle

POLL_SECONDS = 2.0
RETRY_SECONDS = 15.0  # a version that could not be loaded is not fetched again at every look
ON_DEMAND = 3  # other versions in memory; one of the demo takes about 30 MB
Key = tuple[str, str | None]  # version of the model, version of the published data
KEPT = "champion.json"

log = logging.getLogger("api.champion")


class Champion:
    """Holds what answers now.

    A thread looks at the alias and at the published data every two seconds. A change is loaded there, off the way of
    requests, and swapped in by one assignment; what fails leaves the present one in place and its reason in ``error``.
    """

    def __init__(self, loader: Loader, published: PublishedFolder, folder: Path) -> None:
        self.loader, self.published = loader, published
        self.kept = folder / KEPT
        self.current: Loaded | None = None
        self.error: str | None = None
        self.polled_at: float | None = None
        self._migrated = self._settled = False
        self._seen: Key | None = None  # what the present one was made for
        self._failed: tuple[Key, Exception, float] | None = None  # what, why, when to try again
        self._others: OrderedDict[tuple[str, str | None, str | None], Loaded] = OrderedDict()
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="champion", daemon=True)
        if before := self._recalled():
            loader.champion = before.version

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(timeout=2)  # it may be waiting for a service that never answers

    # -- asked by requests

    def require(self) -> Loaded:
        """What answers now; raises NoChampion, with the reason when there is one."""
        if self.current is None:
            raise NoChampion(f"No verified champion model is loaded: {self.error}" if self.error else "")
        return self.current

    def get(self, asked: str) -> Loaded:
        """The champion, the challenger or a version; loads what is not in memory.

        Raises
        ------
        NotFound
            There is no such version, or no challenger now.
        """
        if asked == "champion":
            return self.require()
        registry = self.loader.registry()
        alias = asked if asked == "challenger" else None
        info = registry.alias(asked) if alias else registry.version(asked)
        if info is None:
            raise NotFound("There is no challenger now.")
        now = self.current
        if now is not None and now.info.version == info.version and alias is None:
            return now
        return self._other(info, alias)

    def load(self, info: ModelInfo, published: Published | None) -> Loaded:
        """A version with the history of a version of the data, beside what answers and kept by nobody."""
        with self._lock:
            return self.loader.load(info, None, published)

    def _other(self, info: ModelInfo, alias: str | None) -> Loaded:
        """From memory, or loaded now; the same object as long as nothing changes, so that requests can share it."""
        with self._lock:
            published = self.published.current
            key = self._key(info, published)
            if (*key, alias) not in self._others:
                ready = self._ready(key)
                made = ready.under(alias) if ready else self.loader.load(info, alias, published)
                self._others[(*key, alias)] = made
            self._others.move_to_end((*key, alias))
            while len(self._others) > ON_DEMAND:
                self._others.popitem(last=False)
            return self._others[(*key, alias)]

    def _ready(self, key: Key) -> Loaded | None:
        """This version with this data under whatever name it is in memory."""
        if self.current is not None and self._seen == key:
            return self.current
        return next((loaded for known, loaded in self._others.items() if known[:2] == key), None)

    @staticmethod
    def _key(info: ModelInfo, published: Published | None) -> Key:
        return info.version, published.snapshot.data_version if published else None

    # -- following

    def refresh(self) -> None:
        """Look now, and load what changed before this returns. Never raises; see ``error``."""
        with self._lock:
            steps = (self._prepare, self._follow_data, self._follow_alias)
            trouble = [self._attempt(step) for step in steps]
            if not self._settled and not any(trouble):  # not while a service is away: it would only be waited for
                trouble.append(self._attempt(self._settle))
            self.error = next((text for text in trouble if text), None)
            self.polled_at = time.monotonic()

    def _follow(self) -> None:
        while not self._stop.is_set():
            self.refresh()
            self._stop.wait(POLL_SECONDS)

    def _attempt(self, step: Callable[[], None]) -> str | None:
        try:
            step()
        except ControlRoomError as error:
            return self._noted(str(error))
        except Exception as error:  # whatever a damaged file or a strange answer brings: the present one goes on
            log.exception("the champion could not be refreshed")
            return self._noted(f"{type(error).__name__} (see the API's log)")
        return None

    def _noted(self, text: str) -> str:
        if text != self.error:
            log.warning("%s", text)
        return text

    def _prepare(self) -> None:
        if not self._migrated:
            self.loader.store.migrate()
            self._migrated = True

    def _settle(self) -> None:
        """Once: an API that was killed while it moved the champion puts right what it left."""
        if done := settle(self.loader.registry(), self.loader.store):
            log.warning("%s", done)
        self._settled = True

    def _follow_data(self) -> None:
        try:
            self.published.follow()
        except ServiceDown:
            if self.published.current is None:
                self.published.recall()
            raise

    def _follow_alias(self) -> None:
        try:
            info = self.loader.registry().alias("champion")
        except ServiceDown:
            if self.current is None and (kept := self._recalled()):
                self._swap(kept)
            else:
                self._swap_data()
            raise
        if info is not None:
            self._swap(info)

    def _swap_data(self) -> None:
        if self.current is not None:
            self._swap(self.current.info)

    def _swap(self, info: ModelInfo) -> None:
        """Load and put in place, unless this version with this data is there already."""
        published = self.published.current
        wanted = self._key(info, published)
        if self._seen == wanted:
            return
        if self._failed and self._failed[0] == wanted and time.monotonic() < self._failed[2]:
            raise self._failed[1]
        self._place(info, wanted, published)

    def _place(self, info: ModelInfo, wanted: Key, published: Published | None) -> None:
        try:
            ready = self._ready(wanted)
            loaded = ready.under("champion") if ready else self.loader.load(info, "champion", published)
        except Exception as error:
            self._failed = (wanted, error, time.monotonic() + RETRY_SECONDS)
            raise
        self.current, self._seen, self._failed = loaded, wanted, None
        self.loader.champion = info.version
        self._keep(info)
        log.info("champion is version %s with data %s", info.version, loaded.data_version)

    # -- the last good one, for a start without MLflow

    def _keep(self, info: ModelInfo) -> None:
        self.kept.parent.mkdir(parents=True, exist_ok=True)
        draft = self.kept.with_suffix(".new")
        draft.write_text(info.model_dump_json())
        os.replace(draft, self.kept)

    def _recalled(self) -> ModelInfo | None:
        try:
            return ModelInfo.model_validate_json(self.kept.read_bytes())
        except (OSError, ValidationError):
            return None
