"""Which datasets there are: those in the store, and the one that ships with the package."""

import functools
from collections.abc import Mapping
from importlib import resources
from typing import TYPE_CHECKING, Any

from service.datasets.manifest import Feature, Manifest
from service.errors import UnknownName
from service.names import check_dataset_reference
from service.specs.generated import BITS, BitSequences, generated
from service.storage.base import Store
from service.storage.json_documents import from_bytes
from service.storage.paths import DATASETS, DatasetPaths

if TYPE_CHECKING:
    from numpy.typing import NDArray

DIGITS = Manifest(
    name="digits",
    version="uci-1998",
    features=(Feature("image", "uint8", (8, 8, 1), 16.0),),
    classes=tuple("0123456789"),
    splits={"train": 1437, "test": 360},
    source="UCI Optical Recognition of Handwritten Digits (Alpaydin and Kaynak 1998), CC BY 4.0",
    embedded=True,
)
EMBEDDED = {DIGITS.name: DIGITS}


BITS_VERSION = "philox-1"


def bits_manifest(params: BitSequences) -> Manifest:
    """The generated dataset `bits` with its parameters."""
    how = "" if params.variant == "recall" else f" ({params.variant})"
    return Manifest(
        name=BITS,
        version=BITS_VERSION,
        features=(Feature("bits", "float32", (params.length, 1)),),
        classes=("0", "1"),
        splits={"train": params.sequences, "test": params.sequences},
        source=f"generated from the run's seed: bits, each -1 or 1, to remember for {params.delay} steps{how}",
        embedded=True,
    )


def find_dataset(store: Store, reference: str, params: Mapping[str, Any] | None = None) -> Manifest:
    """The newest version of `name`, or `name@version`; a generated one as `params`, a spec's dataset_params, ask for it.

    Raise UnknownName, and InvalidInput for parameters that it does not take.
    """
    name, version = check_dataset_reference(reference)
    made = generated(name, params or {})
    if made is not None:
        if version not in (None, BITS_VERSION):
            raise UnknownName(f"The dataset {name!r} has no version {version!r}: it is generated, and has {BITS_VERSION}.")
        return bits_manifest(made)
    versions = _versions(store, name)
    embedded = EMBEDDED.get(name)
    if embedded is not None and (version == embedded.version or (version is None and not versions)):
        return embedded
    if version is None and versions:
        return max(versions, key=lambda manifest: manifest.imported)
    for manifest in versions:
        if manifest.version == version:
            return manifest
    raise _unknown(store, name, version, versions)


def _unknown(store: Store, name: str, version: str | None, versions: list[Manifest]) -> UnknownName:
    if versions:
        known = ", ".join(manifest.version for manifest in versions)
        return UnknownName(f"The dataset {name!r} has no version {version!r} in {store.url}: it has {known}.")
    there = sorted({*EMBEDDED, BITS, *store.list_folders(DATASETS)})
    return UnknownName(
        f"There is no dataset {name!r} in {store.url}: there is {', '.join(there)}; import it with `delayline data import {name} --from FOLDER`."
    )


def list_datasets(store: Store) -> list[Manifest]:
    """Every version of every dataset, by name, the newest first."""
    found = [manifest for name in store.list_folders(DATASETS) for manifest in _versions(store, name)]
    found = [manifest for manifest in found if manifest.name != BITS]
    shipped = (*EMBEDDED.values(), bits_manifest(BitSequences()))
    found += [manifest for manifest in shipped if not any(other.name == manifest.name for other in found)]
    return sorted(found, key=lambda manifest: (manifest.name, -manifest.imported))


def _versions(store: Store, name: str) -> list[Manifest]:
    keys = [DatasetPaths(name, version).manifest for version in store.list_folders(f"{DATASETS}{name}/")]
    return [Manifest.from_document(from_bytes(data, key), key) for key, data in store.read_many(keys).items()]


@functools.cache
def embedded_arrays(name: str) -> "dict[str, dict[str, NDArray[Any]]]":
    """The arrays of an embedded dataset: split, then feature or `label`."""
    import numpy as np

    with (
        (resources.files("service.datasets") / "embedded" / f"{name}.npz").open("rb") as file,
        np.load(file, allow_pickle=False) as arrays,
    ):
        return {
            split: {"image": arrays[f"x_{split}"], "label": arrays[f"y_{split}"].astype(np.int32)} for split in ("train", "test")
        }
