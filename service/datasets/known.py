"""Datasets that need no format, and where they come from when no folder is given."""

from dataclasses import dataclass

_MNIST = "https://storage.googleapis.com/cvdf-datasets/mnist"
_FASHION = "https://storage.googleapis.com/tensorflow/tf-keras-datasets"
"""The authors' own address has no https; these are the same files, as their checksums say."""
_TORONTO = "https://www.cs.toronto.edu/~kriz"


@dataclass(frozen=True)
class Remote:
    """A file at a public address, the sha256 of the published one, and its size in bytes."""

    url: str
    sha256: str
    size: int

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class Known:
    """A dataset's format and its files; `classes` are those that the files do not name themselves."""

    format: str
    files: tuple[Remote, ...]
    classes: tuple[str, ...] | None = None


_IDX = ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz", "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz")


def _idx(base: str, *files: tuple[str, int]) -> tuple[Remote, ...]:
    return tuple(Remote(f"{base}/{name}", sha256, size) for name, (sha256, size) in zip(_IDX, files, strict=True))


KNOWN = {
    "mnist": Known(
        "idx",
        _idx(
            _MNIST,
            ("440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609", 9912422),
            ("3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c", 28881),
            ("8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6", 1648877),
            ("f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6", 4542),
        ),
        tuple("0123456789"),
    ),
    "fashion-mnist": Known(
        "idx",
        _idx(
            _FASHION,
            ("3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84", 26421880),
            ("a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845", 29515),
            ("346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073", 4422102),
            ("67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5", 5148),
        ),
        ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
    "cifar10": Known(
        "cifar",
        (
            Remote(
                f"{_TORONTO}/cifar-10-python.tar.gz",
                "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
                170498071,
            ),
        ),
    ),
    "cifar100": Known(
        "cifar",
        (
            Remote(
                f"{_TORONTO}/cifar-100-python.tar.gz",
                "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
                169001437,
            ),
        ),
    ),
}
