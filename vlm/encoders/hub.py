"""Files of the Hugging Face hub: from its cache where they are there, else downloaded once, else a clear error within seconds."""

from __future__ import annotations

import importlib
import socket
import urllib.parse
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vlm.encoders.weights import has_all_weights
from vlm.errors import WeightsUnavailable

CONNECT_SECONDS = 5.0
# In order of preference. Not model.safetensors: beside an open_clip model that is often transformers' copy, with other names inside.
OPENCLIP_WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pt",
)


@dataclass(frozen=True, slots=True)
class HubModel:
    """A repository of the hub, wanted by the encoder or answerer ``spec``; ``otherwise`` is the last way out where it is not to be had."""

    spec: str
    repository: str
    otherwise: str = "use an encoder that is a plug-in (docs/encoders.md)"

    def cached_file(self, names: Sequence[str]) -> Path | None:
        """The first of ``names`` that is in the cache."""
        from huggingface_hub import try_to_load_from_cache

        found = (try_to_load_from_cache(self.repository, name) for name in names)
        return next((Path(path) for path in found if isinstance(path, str)), None)

    def fetch_file(self, names: Sequence[str], *, offline: bool) -> Path:
        """The first of ``names`` that the repository has, from the cache or downloaded.

        Raises:
            WeightsUnavailable: neither is possible; the message names the ways out.
        """
        cached = self.cached_file(names)
        if cached is not None:
            return cached
        self._refuse_offline(offline)
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

        for name in names:
            try:
                return Path(hf_hub_download(self.repository, name))
            except LocalEntryNotFoundError as error:
                raise self.unavailable(_first_line(error)) from error
            except EntryNotFoundError:
                continue
            except _network_errors() as error:
                raise self.unavailable(_first_line(error)) from error
        raise self.unavailable(f"it holds none of {', '.join(names)}")

    def cached_folder(self) -> Path | None:
        """The newest snapshot of the repository in the cache; parts of it may be missing."""
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError

        try:
            return Path(snapshot_download(self.repository, local_files_only=True))
        except LocalEntryNotFoundError:
            return None

    def fetch_folder(self, patterns: Sequence[str], *, offline: bool) -> Path:
        """A snapshot folder with all files that match ``patterns``, downloaded.

        Raises:
            WeightsUnavailable: it cannot be downloaded.
        """
        self._refuse_offline(offline)
        from huggingface_hub import snapshot_download

        try:
            return Path(snapshot_download(self.repository, allow_patterns=list(patterns)))
        except _network_errors() as error:
            raise self.unavailable(_first_line(error)) from error

    def unavailable(self, reason: str) -> WeightsUnavailable:
        """The error that says what is missing, where it was looked for, and every way out."""
        by_hand = "hf:FOLDER" if self.spec.startswith("hf:") else "openclip:local-dir:FOLDER"
        return WeightsUnavailable(
            f"the weights of {self.spec!r} are not in the cache {str(cache_folder())!r} and could not be downloaded from "
            f"the hub repository {self.repository!r}: {reason}. Ways out: connect this machine once; or copy the repository "
            f"from a machine that has it and load the folder with {by_hand}; or point HF_HOME at a cache that holds it; "
            f"or {self.otherwise}"
        )

    def _refuse_offline(self, offline: bool) -> None:
        from huggingface_hub import constants

        if offline:
            raise self.unavailable("it was asked to stay offline")
        if constants.HF_HUB_OFFLINE:
            raise self.unavailable("HF_HUB_OFFLINE is set")
        problem = _no_way_to(constants.ENDPOINT)
        if problem:
            raise self.unavailable(problem)


def transformers_folder(hub: HubModel, files: Sequence[str], *, offline: bool) -> tuple[Path, str]:
    """The folder with the files of ``hf:ORG/NAME`` or ``hf:FOLDER``, and the spec that finds it from any working directory.

    ``files`` are the patterns of what is wanted beside the weights.

    Raises:
        WeightsUnavailable: it is no folder, or the hub's files are not to be had.
    """
    local = Path(hub.repository).expanduser()
    if local.is_dir():
        return local, f"hf:{local.absolute()}"
    if hub.repository.startswith(("/", "./", "../", "~")) or hub.repository.count("/") != 1:
        raise WeightsUnavailable(f"{hub.spec!r}: {str(local)!r} is no folder, and the hub's names have the form ORG/NAME")
    cached = hub.cached_folder()
    if cached is not None and (cached / "config.json").is_file() and has_all_weights(cached):
        return cached, hub.spec
    folder = hub.fetch_folder([*files, "model*.safetensors"], offline=offline)
    if not has_all_weights(folder):
        folder = hub.fetch_folder(["pytorch_model*.bin"], offline=offline)
    return folder, hub.spec


def cache_folder() -> Path:
    """Where the hub's files are kept: HF_HOME moves it."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _no_way_to(endpoint: str) -> str:
    """Why ``endpoint`` cannot be reached; "" when a connection opens. The hub's own client would retry for half a minute."""
    scheme = urllib.parse.urlsplit(endpoint).scheme
    proxy = urllib.request.getproxies().get(scheme)
    host = urllib.parse.urlsplit(proxy if proxy and "//" in proxy else endpoint)
    port = host.port or (443 if host.scheme == "https" else 80)
    try:
        socket.create_connection((host.hostname or "", port), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        return f"no connection to {host.hostname} ({error})"
    return ""


def _network_errors() -> tuple[type[Exception], ...]:
    """What the hub's client raises; its HTTP library was another one in each major version."""
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError

    library = importlib.import_module(type(huggingface_hub.get_session()).__module__.partition(".")[0])
    return (OSError, HfHubHTTPError, library.HTTPError)


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0].rstrip(".") or type(error).__name__
