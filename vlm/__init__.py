"""vlm: search your own videos by text, and find the moment a sentence describes.

The way from a file to an answer: ``Library.add`` (vlm.index.library) samples and decodes (vlm.video), encodes (vlm.encoders),
stores (vlm.index.store) and indexes (vlm.index.vectors); ``Library.search`` reads it back as ranked, timed hits.

Importing this package loads neither torch nor faiss nor av.
"""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vlm.index.library import Library

__all__ = ["Library", "__version__"]

try:
    __version__ = metadata.version("vlm-retrieval")
except metadata.PackageNotFoundError:  # a clone that nothing was installed from, such as the copy on a training machine
    __version__ = "0+uninstalled"


def __getattr__(name: str) -> Any:
    # The one upward name of the house: users write `from vlm import Library`.
    if name == "Library":
        from vlm.index.library import Library

        return Library
    raise AttributeError(f"module 'vlm' has no attribute {name!r}")
