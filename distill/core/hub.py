"""The Hugging Face hub, and what to do where it cannot be reached."""

import os
import socket
from functools import cache
from urllib.parse import urlparse
from urllib.request import getproxies


@cache
def hub_reachable() -> bool:
    """Whether the hub can be reached; where it cannot, only what was downloaded before is used.

    Without this, its client tries for half a minute before it says that there is no network.
    """
    import datasets
    import huggingface_hub.constants

    if huggingface_hub.constants.HF_HUB_OFFLINE:
        return False
    endpoint = urlparse(os.environ.get("HF_ENDPOINT", "https://huggingface.co"))
    try:
        if not getproxies():  # behind a proxy, names may be resolved there alone
            socket.getaddrinfo(endpoint.hostname, endpoint.port or 443)
    except OSError:
        huggingface_hub.constants.HF_HUB_OFFLINE = True
        datasets.config.HF_HUB_OFFLINE = True
        return False
    return True
