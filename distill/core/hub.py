"""Whether the Hugging Face hub can be reached."""

import os
import socket
from functools import cache
from urllib.parse import urlparse
from urllib.request import getproxies


@cache
def hub_reachable() -> bool:
    """Return whether the hub can be reached; if not, switch its clients to offline mode.

    Offline, only files that were downloaded before are used. Otherwise the clients would retry for
    half a minute before they report that there is no network.
    """
    import datasets
    import huggingface_hub.constants

    if huggingface_hub.constants.HF_HUB_OFFLINE:
        return False
    endpoint = urlparse(os.environ.get("HF_ENDPOINT", "https://huggingface.co"))
    try:
        if not getproxies():  # a proxy may be the only one to resolve names
            socket.getaddrinfo(endpoint.hostname, endpoint.port or 443)
    except OSError:
        huggingface_hub.constants.HF_HUB_OFFLINE = True
        datasets.config.HF_HUB_OFFLINE = True
        return False
    return True
