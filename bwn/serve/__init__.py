"""A model as an HTTP service: `bwn serve`. Needs aiohttp, the extra `serve`."""
