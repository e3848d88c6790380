"""sessile side by side with what anyone would use instead: `python -m benchmarks.peers`.

    base.py        what a peer is
    dicts.py, caches.py, daemons.py, frameworks.py, asgi.py, own.py     the peers, a class each
    servers.py     Redis and memcached, real ones, on unix sockets
    worker.py      the process in which one peer runs, and what it times
    __main__.py    starts a worker a peer, runs rounds over all of them in turn, makes the tables and plots

A peer that is new gets a class and a line in PEERS, and its package, pinned, in the group `bench` of pyproject.toml.
"""

PEERS = {
    "sessile": "own:Sessile",
    "dict": "dicts:Dict",
    "dict + msgspec": "dicts:EncodedDict",
    "dict + lock + deadline": "dicts:LockedDict",
    "cachetools": "caches:Cachetools",
    "cachebox": "caches:Cachebox",
    "cachebox, live objects": "caches:CacheboxLive",
    "theine": "caches:Theine",
    "moka-py": "caches:Moka",
    "diskcache": "daemons:DiskcachePeer",
    "memcached": "daemons:MemcachedPeer",
    "Redis": "daemons:RedisPeer",
    "Django cache, locmem": "frameworks:DjangoLocmem",
    "Django cache, Redis": "frameworks:DjangoRedis",
    "Django db, SQLite": "frameworks:DjangoDatabase",
    "Django file": "frameworks:DjangoFile",
    "Django signed_cookies": "frameworks:DjangoCookie",
    "Flask-Session, Redis": "frameworks:FlaskSessionRedis",
    "Flask-Session, files": "frameworks:FlaskSessionFiles",
    "Beaker, memory": "frameworks:BeakerMemory",
    "Beaker, files": "frameworks:BeakerFiles",
    "sessile, ASGI": "own:SessileAsgi",
    "Starlette signed cookie": "asgi:StarletteCookie",
    "starsessions, memory": "asgi:Starsessions",
    "starsessions, Redis": "asgi:StarsessionsRedis",
}
"""Name as the tables show it: module of this package, and class in it."""
