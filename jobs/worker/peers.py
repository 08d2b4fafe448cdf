"""Who the workers of an attempt are, as one of them knows it."""

import json
import os
import socket

from service.storage.json_documents import Document

PEERS_VARIABLE = "DELAYLINE_PEERS"


def peers() -> list[Document]:
    """Rank, host and process id of every worker, as the backend wrote them into its environment."""
    return list(json.loads(os.environ.get(PEERS_VARIABLE, "[]")))


def identity(rank: int) -> list[Document]:
    """Rank, host and process id of every worker of this attempt, by rank."""
    return peers() or [{"rank": rank, "host": socket.gethostname(), "pid": os.getpid()}]
