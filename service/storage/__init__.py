"""The store: one seam (`base`), two adapters (`local`, `s3`), and the documents of runs (`records`)."""

from service.settings import Settings
from service.storage.base import ObjectInfo, Store
from service.storage.location import S3Location, parse_location

__all__ = ["ObjectInfo", "Store", "open_store"]

COMMAND_PATIENCE = 20.0
"""Seconds for which a command that a person waits for tries to reach a store (assumed)."""


def open_store(settings: Settings, patience: float = COMMAND_PATIENCE) -> Store:
    """The store that the settings name; nothing is read or written yet.

    `patience`: seconds for which an operation is tried again while the store does not answer.
    """
    location = parse_location(settings.store, settings.s3_endpoint)
    if isinstance(location, S3Location):
        from service.storage.s3 import S3Store

        return S3Store(location, patience)
    from service.storage.local import LocalStore

    return LocalStore(location.folder, patience)
