"""The client library: ranks over several servers, and sends each request where it will be answered first.

>>> from rankine.client import Client
>>> with Client(["http://10.0.0.1:8080", "http://10.0.0.2:8080"]) as client:
...     best = client.rank({"user": 7}, [1193, 661, 914], top_k=2, deadline_s=0.05)

Needs the ``client`` extra. Imports nothing of the server: what a client needs is small.
"""

from rankine.client.async_client import AsyncClient
from rankine.client.errors import RequestRefused, ServerUnreachable
from rankine.client.reply import RankReply
from rankine.client.settings import ClientSettings
from rankine.client.sync_client import Client

__all__ = ["AsyncClient", "Client", "ClientSettings", "RankReply", "RequestRefused", "ServerUnreachable"]
